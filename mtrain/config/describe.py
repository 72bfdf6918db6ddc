"""What the configuration says about itself: the text under each key, and a JSON Schema.

Everything is derived from the sections, so a new key needs nothing here. Imported only by those
who describe: reading the sources would slow every other start.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from mtrain.config.run import Config
from mtrain.config.section import constants

Schema = dict[str, Any]


def sections_in(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a value of this type may be, or hold."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for part in get_args(kind):
        yield from sections_in(part)


def sections_below(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a section and all sections inside it."""
    yield section
    for field in section.model_fields.values():
        for kind in sections_in(field.annotation):
            yield from sections_below(kind)


def owner_of(section: type[BaseModel], key: str) -> type[BaseModel]:
    """Return the class that defines a key of a section: itself, or one that it extends."""
    owners = (kind for kind in section.__mro__ if key in inspect.get_annotations(kind))
    return next(kind for kind in owners if issubclass(kind, BaseModel))


def explanation(section: type[BaseModel], key: str) -> str:
    """Return the text under a key in the source, with its line breaks; empty if there is none.

    Pydantic could keep it in the field, but would read all sources at each start of the program.
    """
    return _texts_under_keys(owner_of(section, key)).get(key, "")


def description(section: type[BaseModel], key: str) -> str:
    """Return what a key means, in one line: its text, or else that of the section it holds."""
    text = explanation(section, key)
    if not text:
        inner = list(sections_in(section.model_fields[key].annotation))
        text = inspect.getdoc(inner[0]) or "" if len(inner) == 1 else ""
    return " ".join(text.split())


@cache
def _texts_under_keys(owner: type[BaseModel]) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        ast.unparse(key.target): text.value.value
        for key, text in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(key, ast.AnnAssign)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def raw_schema() -> Schema:
    """Return a JSON Schema of the configuration as pydantic spells patterns and paths."""
    schema = Config.model_json_schema()
    for section in dict.fromkeys(sections_below(Config)):
        properties = schema_of(section, schema)["properties"]
        for key, field in section.model_fields.items():
            properties[key]["description"] = description(section, key)
            properties[key].pop("title", None)  # says no more than the key
            if isinstance(field.default, BaseModel):  # a section, whose keys have defaults
                properties[key].pop("default", None)
                _name_alternatives(section, key, properties[key])
    return schema


def schema_of(section: type[BaseModel], schema: Schema) -> Schema:
    """Return the part of the configuration's JSON Schema that describes one of its sections."""
    found: Schema = schema if section is Config else schema["$defs"][section.__name__]
    return found


def _name_alternatives(section: type[BaseModel], key: str, found: Schema) -> None:
    """Let only the default alternative of a section leave out what names it, its `type`."""
    field = section.model_fields[key]
    named = {f"#/$defs/{kind.__name__}": constants(kind) for kind in sections_in(field.annotation)
             if not isinstance(field.default, kind)}  # fmt: skip
    for choice in found.get("oneOf", []):
        if choice.get("$ref") in named:
            choice["required"] = named[choice["$ref"]]


def json_schema() -> Schema:
    """Return a JSON Schema (draft 2020-12) of the configuration, for editors and validators.

    It knows names, types and ranges of keys, but no rule that joins several keys.
    """
    schema: Schema = _portable(raw_schema())
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": "Configuration of mtrain"}
    return head | {key: value for key, value in schema.items() if key not in head}


def _portable(node: Any) -> Any:
    r"""Leave out what only pydantic knows: the format `path`, and \z for the end of a text.

    Names that match no pattern become errors, as they are for pydantic.
    """
    if isinstance(node, list):
        return [_portable(item) for item in node]
    if isinstance(node, dict):
        closed = {"additionalProperties": False} if "patternProperties" in node else {}
        return closed | {key: _portable(value) for key, value in node.items()
                         if (key, value) != ("format", "path")}  # fmt: skip
    return re.sub(r"\\z$", "$", node) if isinstance(node, str) else node
