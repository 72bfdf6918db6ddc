"""The translations of valid that a run keeps for its report, with the checkpoint they are of."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, model_validator

from mtrain.console import warn
from mtrain.evaluation.scored import SetTexts
from mtrain.text.lines import write_whole

FORMAT = 1


@dataclass(frozen=True)
class KeptTranslations:
    """What a checkpoint made of valid, by direction."""

    checkpoint: str
    weights: str  # their SHA-256
    decoding: dict[str, Any]  # how it searched
    texts: Sequence[SetTexts]


class _Set(BaseModel):
    languages: tuple[str, str]
    sources: list[str]
    references: list[str]
    hypotheses: list[str]

    @model_validator(mode="after")
    def _is_in_step(self) -> "_Set":
        if not len(self.sources) == len(self.references) == len(self.hypotheses):
            raise ValueError("its texts have not the same number of lines")
        return self


class _File(BaseModel):
    format: int
    checkpoint: str
    weights: str
    decoding: dict[str, Any]
    sets: list[_Set]


def write_kept(path: Path, kept: KeptTranslations) -> None:
    """Write translations of texts with one reference each."""
    sets = [
        _Set(
            languages=texts.languages,
            sources=list(texts.sources or ()),
            references=list(texts.references[0]),
            hypotheses=list(texts.hypotheses),
        )
        for texts in kept.texts
    ]
    file = _File(
        format=FORMAT,
        checkpoint=kept.checkpoint,
        weights=kept.weights,
        decoding=kept.decoding,
        sets=sets,
    )
    content = json.dumps(file.model_dump(), indent=1, ensure_ascii=False)
    with write_whole(path) as output:
        output.write(f"{content}\n".encode())


def read_kept(path: Path, name: str) -> KeptTranslations | None:
    """Read translations of a set of this name; None, with a warning if they are damaged."""
    try:
        file = _File.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        warn(f"{path}: damaged, so it is not read ({error.errors()[0]['msg']})")
        return None
    if file.format != FORMAT:
        warn(f"{path}: format {file.format}, which this version of mtrain does not read")
        return None
    texts = [SetTexts(name, each.languages, each.sources, [each.references], each.hypotheses)
             for each in file.sets]  # fmt: skip
    return KeptTranslations(file.checkpoint, file.weights, file.decoding, texts)
