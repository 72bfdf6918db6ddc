"""The reference: every key of the configuration as Markdown, grouped by section.

Where one of several sections may stand, such as the kinds of corpora or of models, a key that they
share is explained once.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mtrain.config.describe import Schema, description, owner_of, raw_schema, schema_of, sections_in
from mtrain.config.run import Config
from mtrain.config.section import MAX_FLOAT, MAX_INT, Section, constants

INTRODUCTION = """\
# Configuration reference

Every key of a configuration with its type, its default and what it means. This page is the output
of `mtrain config --reference`.

A *section* is a group of keys, indented under its name. `--set` joins section and key by a dot:
`--set training.max_updates=2000`. Relative paths begin at the working directory; in paths `~`,
`$NAME` and `${NAME}` are replaced. Where the default is `null`, nothing is set, and `null` may be
written as well."""
HEADER = ("| key | type | default | meaning |", "| --- | --- | --- | --- |")
PLURALS = {"string": "strings", "path": "paths", "section": "sections"}

Kind = type[BaseModel]


@dataclass(frozen=True)
class _Group:
    """Places in the configuration whose sections share keys, such as all lists of corpora."""

    fields: dict[str, FieldInfo]  # by path, such as data.train

    @property
    def path(self) -> str:
        """The first of the places."""
        return next(iter(self.fields))

    @property
    def kinds(self) -> list[Kind]:
        """The sections that may stand there."""
        found = [sections_in(field.annotation) for field in self.fields.values()]
        return list(dict.fromkeys(kind for kinds in found for kind in kinds))

    @property
    def usual(self) -> Kind:
        """The section that stands there by default."""
        return type(self.fields[self.path].default)

    @property
    def bases(self) -> list[Kind]:
        """The classes that define keys of these sections, the most general first."""
        found = [base for kind in self.kinds for base in reversed(kind.__mro__)]
        return [base for base in dict.fromkeys(found)
                if issubclass(base, Section) and base is not Section]  # fmt: skip

    @property
    def inner(self) -> list["_Group"]:
        """The groups inside these sections."""
        groups: list[_Group] = []
        for kind in self.kinds:
            for key, field in kind.model_fields.items():
                one = _Group({f"{self.path}.{key}".removeprefix("."): field})
                alike = [group for group in groups if set(group.bases) & set(one.bases)]
                if alike:
                    alike[0].fields.update(one.fields)
                elif one.kinds:
                    groups.append(one)
        return groups

    @property
    def heading(self) -> str:
        """The paths; the whole configuration has none."""
        return ", ".join(f"`{path}`" for path in self.fields if path) or "Top level"

    @property
    def anchor(self) -> str:
        """What GitHub makes of the heading, for links."""
        return re.sub(r"[^\w -]", "", self.heading.lower()).replace(" ", "-")


def reference() -> str:
    """Return the reference as Markdown."""
    root = _Group({"": FieldInfo.from_annotation(Config)})
    return "\n".join([INTRODUCTION, *_chapter(root, raw_schema())])


def _chapter(group: _Group, schema: Schema) -> Iterator[str]:
    """Yield the lines on a group and on those inside it."""
    yield from ("", f"{'#' * (2 + group.path.count('.'))} {group.heading}")
    if len(group.kinds) > 1:
        names = _names(group.kinds, group)
        which = f": {_either(names)}" if names else "; its keys tell which"
        yield from ("", f"One of several kinds of section{which}.")
    for base in group.bases:
        yield from _table(base, group, schema)
    for inner in group.inner:
        yield from _chapter(inner, schema)


def _table(base: Kind, group: _Group, schema: Schema) -> Iterator[str]:
    """Yield a sentence and a table on the keys that a class defines, if there are any."""
    takers = [kind for kind in group.kinds if issubclass(kind, base)]
    fields = {key: field for key, field in takers[0].model_fields.items()
              if owner_of(takers[0], key) is base}  # fmt: skip
    if not fields:
        return
    lead = " ".join((base.__doc__ or "").split())
    if len(group.kinds) > 1:
        lead = f"**{lead}**{_where(takers, group)}"
    yield from ("", lead, "", *HEADER)
    anchors = {path.rpartition(".")[2]: inner.anchor
               for inner in group.inner for path in inner.fields}  # fmt: skip
    for key, field in fields.items():
        words = _type(schema_of(takers[0], schema)["properties"][key])
        if field.default is None:
            words = words.removesuffix(" or `null`")
        if key in anchors:
            words = words.replace("section", f"[section](#{anchors[key]})", 1)
        is_name = len(group.kinds) > 1 and key in constants(takers[0])
        default = "required" if is_name and takers[0] is not group.usual else _default(field)
        yield f"| `{key}` | {words} | {default} | {_prose(description(takers[0], key))} |"


def _names(kinds: list[Kind], group: _Group) -> list[str]:
    """Return what names kinds of section, such as `type: rnn`, or nothing if their keys do."""
    if not all(map(constants, kinds)):
        return []
    return [f"`{key}: {kind.model_fields[key].default}`" + " (default)" * (kind is group.usual)
            for kind in kinds for key in constants(kind)]  # fmt: skip


def _where(takers: list[Kind], group: _Group) -> str:
    """Return which kinds of section take some keys, or where they stand, unless all do."""
    if len(takers) == len(group.kinds):
        return ""
    if names := _names(takers, group):
        return f" With {_either(names)}."
    places = [f"`{path}`" for path, field in group.fields.items()
              if set(takers) & set(sections_in(field.annotation))]  # fmt: skip
    return f" In {_either(places, 'and')}." if len(places) < len(group.fields) else ""


def _type(node: Schema) -> str:
    """Return the type that a node of the JSON Schema describes, in words."""
    if "$ref" in node:
        return "section"
    if alternatives := node.get("oneOf") or node.get("anyOf"):
        return _either(map(_type, alternatives))
    if "const" in node or "enum" in node:
        return _either(f"`{value}`" for value in node.get("enum", [node.get("const")]))
    kind = str(node["type"])
    if kind == "array" and "prefixItems" in node:
        items = node["prefixItems"]
        return f"list of {len(items)}: {_either(map(_type, items), 'and')}"
    if kind == "array":
        inner = _either(map(_type, node["items"].get("oneOf", [node["items"]])))
        return f"list of {PLURALS.get(inner, inner)}"
    if kind == "object":
        values = node.get("patternProperties") or {"": node["additionalProperties"]}
        return f"mapping of string to {_either(map(_type, values.values()))}"
    if kind == "string":
        return "path" if node.get("format") == "path" else "string"
    return {"null": "`null`", "boolean": "true or false"}.get(kind) or f"{kind}{_range(node)}"


def _range(node: Schema) -> str:
    """Return the range of a number in words; limits that nobody reaches are left out."""
    largest = MAX_INT if node["type"] == "integer" else MAX_FLOAT
    low, above = node.get("minimum", -largest), node.get("exclusiveMinimum")
    high, below = node.get("maximum", largest), node.get("exclusiveMaximum", largest)
    if above is not None and node["type"] == "integer":
        low, above = above + 1, None
    words = f" above {above}" if above is not None else f" from {low}" if low > -largest else ""
    upper = f" to {high}" if high < largest else f" to below {below}" if below < largest else ""
    return words + (" up" if above is not None and upper else "") + upper


def _default(field: FieldInfo) -> str:
    """Return what stands in the column of defaults."""
    if field.is_required():
        return "required"
    if field.default_factory_takes_validated_data:
        return "see meaning"
    value: Any = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _prose(text: str) -> str:
    """Return text for a cell of a Markdown table; what is not in backticks is taken literally."""
    parts = text.replace("|", r"\|").split("`")
    parts[::2] = [re.sub(r"([*<])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


def _either(words: Iterable[str], last: str = "or") -> str:
    """Join different words: a, b or c."""
    *most, end = dict.fromkeys(words)
    return f"{', '.join(most)} {last} {end}" if most else end
