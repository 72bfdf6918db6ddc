"""The base class and the value types of all configuration sections."""

import os
from pathlib import Path
from string import Template
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
)

from mtrain.remote import RemotePath, as_path

# large enough for any use, small enough that arithmetic does not overflow
MAX_INT, MAX_FLOAT = (1 << 31) - 1, 1e9

PositiveInt = Annotated[int, Field(gt=0, le=MAX_INT)]
NonNegativeInt = Annotated[int, Field(ge=0, le=MAX_INT)]
PositiveFloat = Annotated[float, Field(gt=0, le=MAX_FLOAT)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=MAX_FLOAT)]
Probability = Annotated[float, Field(ge=0, lt=1)]


def expand(path: str) -> str:
    """Expand ~, $NAME and ${NAME} in a path; $$ is a dollar sign.

    Raises ValueError for an undefined environment variable or a malformed one.
    """
    try:
        return os.path.expanduser(Template(path).substitute(os.environ))
    except KeyError as error:
        raise ValueError(f"{path}: the environment has no variable {error.args[0]}") from None
    except ValueError:
        raise ValueError(f"{path}: a variable is $NAME or ${{NAME}}, a dollar sign is $$") from None


def _file(value: Any) -> Any:
    # a path was read before; anything else is an error of pydantic's
    return as_path(expand(value)) if isinstance(value, str) else value


def _local(value: Any) -> Any:
    path = _file(value)
    if isinstance(path, RemotePath):
        raise ValueError(f"{path}: a local path is expected")
    return path


# serialised with $$ so that reading it again expands nothing
_AS_TEXT = PlainSerializer(lambda path: str(path).replace("$", "$$"), when_used="json")
LocalPath = Annotated[Path, BeforeValidator(_local), _AS_TEXT]
FilePath = Annotated[Path, BeforeValidator(_file), _AS_TEXT]  # an input, which may be a URL


class Section(BaseModel):
    """A frozen group of keys; unknown keys are errors."""

    # built when it is first used, so that a section within another is not built twice
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _a_switch_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and kind is not bool:
            raise ValueError(f"takes no {str(value).lower()}")  # pydantic would read it as 1 or 0
        return value


def constants(section: type[BaseModel]) -> list[str]:
    """Return the keys of a section that take a single value, such as `type: rnn`."""
    kinds = {key: field.annotation for key, field in section.model_fields.items()}
    return [key for key, kind in kinds.items()
            if get_origin(kind) is Literal and len(get_args(kind)) == 1]  # fmt: skip
