"""Load a `Config` from a YAML file and `--set` overrides, or report all errors at once.

An error names the line and the key; for an unknown key it suggests the closest known one.
"""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mtrain.config.base_run import with_base_settings
from mtrain.config.model import MODEL_SECTIONS
from mtrain.config.run import UNION_MEMBERS, Config
from mtrain.config.section import MAX_INT
from mtrain.errors import UserError

MERGE = "tag:yaml.org,2002:merge"
KeyPath = tuple[str, ...]  # a list item has its index, as text

# ValueError comes from `!!int x`, RecursionError from an anchor that contains itself
NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)


class _Loader(yaml.SafeLoader):
    """Reads plain scalars by YAML 1.2: `no` is a string, 1e-3 is a number, 1:30 is a string.

    Supports the merge keys of YAML 1.1: `<<: *anchor` adds the keys that the mapping lacks.
    """


class _Dumper(yaml.SafeDumper):
    """Quotes every string that YAML 1.1 or `_Loader` would read as another type."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("merge", r"^<<$", ["<"]),
    ("float", r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))  # 010 is ten


def load_config(path: Path, overrides: Sequence[str] = (), is_of_run: bool = False) -> Config:
    """Return the configuration in `path`, with each `key=value` of `overrides` applied.

    That of a run may name no corpora: an imported run has none. Another one takes over settings
    of the run that its `model.init_from` names. Raises `UserError` with one line per problem.
    """
    tree, lines = _read(path)
    for place, value in parse_overrides(overrides):
        _put(tree, place, value)
        lines = {key: line for key, line in lines.items() if key[: len(place)] != place}
        for length in range(1, len(place) + 1):
            lines.setdefault(place[:length], f"--set {_spell(place)}")
    if not is_of_run:
        tree = with_base_settings(
            tree,
            lambda of_run: _read(of_run)[0],
            lambda *place: _where(place, lines, str(path)),
        )
    return _validate(tree, lines, str(path), is_of_run)


def _read(path: Path) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """Return the tree of a file and the line of each key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{path}: there is no such configuration file (looked in {Path.cwd()})"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text, from byte {error.start} on") from None
    return _parse(text, str(path))


def parse_overrides(overrides: Sequence[str]) -> list[tuple[KeyPath, Any]]:
    """Parse overrides like `training.max_updates=2000` into key paths and YAML values."""
    parsed: list[tuple[KeyPath, Any]] = []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise UserError(
                f"--set {override}: this is not key=value",
                "write for example: --set training.max_updates=2000",
            )
        try:
            parsed.append((tuple(key.strip().split(".")), yaml.load(value, _Loader)))
        except NOT_YAML:
            raise UserError(f"--set {override}: {value!r} is not a YAML value") from None
    return parsed


def with_values(config: Config, section: str, values: dict[str, Any]) -> Config:
    """Return a copy with `values` set in one section, validated like a file."""
    tree = config.model_dump(mode="json")
    tree[section] |= values
    return config_of_run(tree, section)


def config_of_run(tree: dict[str, Any], origin: str) -> Config:
    """Return the configuration in a tree of JSON values; errors name its `origin`."""
    return _validate(tree, {}, origin, is_of_run=True)


def dump_config(config: Config) -> str:
    """Return the whole configuration as YAML, all defaults included."""
    return dump_tree(config.model_dump(mode="json"))


def dump_tree(tree: dict[str, Any]) -> str:
    """Return a tree of JSON values as YAML that `load_config` reads alike."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def dump_value(value: Any) -> str:
    """Return a value as YAML in one line, such as `{from_train: 2000}`."""
    flow = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, sort_keys=False,
                     allow_unicode=True, width=MAX_INT)  # fmt: skip
    return str(flow).removesuffix("...\n").strip()


def check_text(text: str, path: str) -> Config:
    """Return the configuration in a text that is about to be written to `path`."""
    return _validate(*_parse(text, path), path, is_of_run=False)


def _parse(text: str, path: str) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    try:
        loader = _Loader(text)
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
        raise UserError(f"{path}: a configuration is `key: value` lines, this is not")
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
                duplicates.append(f"{where}: {_spell(inner)} stands here a second time")
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


def _put(tree: dict[str, Any], place: KeyPath, value: Any) -> None:
    """Set one value, and create missing sections on its path."""
    here: Any = tree
    for key in place[:-1]:
        if isinstance(here, list):
            here = here[_index(here, key, place)]
        else:
            if here.get(key) is None:
                here[key] = {}
            here = here[key]
        if not isinstance(here, dict | list):
            raise UserError(f"--set {_spell(place)}: {key} is a value, not a section")
    if isinstance(here, list):
        here[_index(here, place[-1], place)] = value
    else:
        here[place[-1]] = value


def _index(items: list[Any], key: str, place: KeyPath) -> int:
    if not key.isdigit() or int(key) >= len(items):
        raise UserError(
            f"--set {_spell(place)}: {key} is not one of the list's {len(items)} items, from 0"
        )
    return int(key)


def _validate(
    tree: dict[str, Any], lines: dict[KeyPath, str], path: str, is_of_run: bool
) -> Config:
    try:
        return Config.model_validate(tree, context={"is_of_run": is_of_run})
    except ValidationError as error:
        problems = [_explain(problem, lines, path) for problem in error.errors()
                    if problem["type"] != "default_factory_not_called"]  # fmt: skip
    raise UserError("\n".join(dict.fromkeys(problems)))


def _explain(problem: Any, lines: dict[KeyPath, str], path: str) -> str:
    # leave out <pair> and the like: pydantic's names for members of a union, not keys
    place = tuple(str(key) for key in problem["loc"] if not re.fullmatch("<.+>", str(key)))
    where = _where(place, lines, path)
    key = _spell(place)
    kind, message = problem["type"], str(problem["msg"])
    if kind == "extra_forbidden":
        return f"{where}: unknown key {key}{_nearest(problem['loc'])}"
    if kind == "missing":
        return f"{where}: {key} is missing"
    if kind == "union_tag_invalid":
        name, known = problem["ctx"]["tag"][1:-1], problem["ctx"]["expected_tags"]
        where = lines.get((*place, "type"), where)
        suggestion = _suggest(name, re.findall("<(.+?)>", known))
        return f"{where}: {key}.type: there is no {name}{suggestion}"
    if kind == "value_error":
        message = message.removeprefix("Value error, ")
        return f"{where}: {key + ': ' if key else ''}{message}"
    got = problem.get("input")
    if kind == "model_type":
        return f"{where}: {key} is a section of keys, not {got!r}"
    message = message[:1].lower() + message[1:]
    return f"{where}: {key}: {message}, not {got!r}"


def _where(place: KeyPath, lines: dict[KeyPath, str], path: str) -> str:
    """Return the line of the innermost key on the way to `place` that the file contains."""
    known = (place[:length] for length in range(len(place), -1, -1))
    return next((lines[key] for key in known if key in lines), path)


def _nearest(loc: tuple[str | int, ...]) -> str:
    key, section = str(loc[-1]), _section(loc[:-1])
    if section in MODEL_SECTIONS.values():
        of_others = [tag.strip("<>") for tag, other in MODEL_SECTIONS.items()
                     if key in other.model_fields]  # fmt: skip
        if of_others:
            return f"; it is a key of {' and '.join(of_others)} models"
    return _suggest(key, list(section.model_fields) if section else [])


def _suggest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known here: {', '.join(names)}" if names else ""


def _section(loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    """Return the type of the section at pydantic's location `loc`."""
    section: type[BaseModel] | None = Config
    for key in loc:
        if key in UNION_MEMBERS:
            section = UNION_MEMBERS[str(key)]
        elif section is not None and not isinstance(key, int):
            field = section.model_fields.get(key)
            kind = field.annotation if field else None
            kinds = [each for each in (kind, *get_args(kind))
                     if isinstance(each, type) and issubclass(each, BaseModel)]  # fmt: skip
            section = kinds[0] if kinds else section
    return section


def _spell(place: KeyPath) -> str:
    return ".".join(place)
