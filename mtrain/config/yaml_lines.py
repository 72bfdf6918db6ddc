"""YAML with the line of each key: loader and dumper, by the rules of YAML 1.2.

Knows no key. An error names the file and the line.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from mtrain.errors import UserError

MERGE = "tag:yaml.org,2002:merge"
KeyPath = tuple[str, ...]  # a list item has its index, as text

# The last four: `!!int x`, `!!bool x`, `!!timestamp x`, an anchor that contains itself
NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)


class Loader(yaml.SafeLoader):
    """Reads plain scalars by YAML 1.2: `no` is a string, 1e-3 is a number, 1:30 is a string.

    Supports the merge keys of YAML 1.1: `<<: *anchor` adds the keys that the mapping lacks.
    """


class Dumper(yaml.SafeDumper):
    """Quotes every string that YAML 1.1 or `Loader` would read as another type."""


Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("merge", r"^<<$", ["<"]),
    ("float", r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))  # 010 is ten


def read_tree(path: Path, what: str = "configuration") -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """Return the tree of a file and the line of each key; `what` it is.

    Raises UserError if it is missing, no text, no YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such {what} file (looked in {Path.cwd()})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text, from byte {error.start} on") from None
    return parse_tree(text, str(path), what)


def parse_tree(
    text: str, path: str, what: str = "configuration"
) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """Return the tree of a text and the line of each key, as `path:line`."""
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        lines: dict[KeyPath, str] = {}
        duplicates: list[str] = []
        if node is not None:
            _note_lines(node, (), path, lines, duplicates)
        if duplicates:
            raise UserError("\n".join(duplicates), "keep one of each")
        tree = loader.construct_document(node) if node is not None else {}
    except yaml.reader.ReaderError as error:
        where = f"{path}:{text.count(chr(10), 0, error.position) + 1}"
        raise UserError(f"{where}: not YAML: character U+{error.character:04X}") from None
    except NOT_YAML as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise UserError(f"{where}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a {what} is `key: value` lines, this is not")
    return tree, lines


def _note_lines(
    node: yaml.Node, place: KeyPath, path: str, lines: dict[KeyPath, str], duplicates: list[str]
) -> None:
    """Record the line of each key and item, and the keys that a mapping repeats."""
    lines.setdefault(place, f"{path}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.MappingNode):
        for key, value in _pairs(node):
            inner = (*place, str(key.value))
            where = f"{path}:{key.start_mark.line + 1}"
            if inner in lines:
                duplicates.append(f"{where}: {spell(inner)} stands here a second time")
            lines[inner] = where
            _note_lines(value, inner, path, lines, duplicates)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, (*place, str(index)), path, lines, duplicates)


def _pairs(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return the keys and values of a mapping: its own, then those merged by `<<`.

    In `<<: [*one, *other]` the first mapping with a key supplies it.
    """
    pairs = [pair for pair in node.value if pair[0].tag != MERGE]
    known = {str(key.value) for key, _ in pairs}
    merges = [pair for pair in node.value if pair[0].tag == MERGE]
    if len(merges) > 1:
        problem = "a second << in one mapping; write <<: [*one, *other]"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=merges[1][0].start_mark)
    for _, value in merges:
        for base in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            taken = _pairs(base) if isinstance(base, yaml.MappingNode) else []  # refused later
            pairs += [(key, inner) for key, inner in taken if str(key.value) not in known]
            known |= {str(key.value) for key, _ in taken}
    return pairs


def spell(place: KeyPath) -> str:
    """Return a key as it is written: data.filters.max_tokens."""
    return ".".join(place)
