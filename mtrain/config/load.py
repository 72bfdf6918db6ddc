"""Load a `Config` from a YAML file and `--set` overrides, or report all errors at once.

An error names the line and the key; for an unknown key it suggests the closest known one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mtrain.config.base_run import with_base_settings
from mtrain.config.model import MODEL_SECTIONS
from mtrain.config.run import UNION_MEMBERS, Config
from mtrain.config.section import MAX_INT
from mtrain.config.yaml_lines import NOT_YAML, Dumper, KeyPath, Loader, parse_tree, read_tree, spell
from mtrain.errors import UserError, nearest_name

Location = tuple[str | int, ...]  # of a problem, as pydantic names it


def load_config(path: Path, overrides: Sequence[str] = (), is_of_run: bool = False) -> Config:
    """Return the configuration in `path`, with each `key=value` of `overrides` applied.

    That of a run may name no corpora: an imported run has none. Another one takes over settings
    of the run that its `model.init_from` names. Raises `UserError` with one line per problem.
    """
    tree, lines = read_tree(path)
    for place, value in parse_overrides(overrides):
        _put(tree, place, value)
        lines = {key: line for key, line in lines.items() if key[: len(place)] != place}
        for length in range(1, len(place) + 1):
            lines.setdefault(place[:length], f"--set {spell(place)}")
    if not is_of_run:
        tree = with_base_settings(
            tree,
            lambda of_run: read_tree(of_run)[0],
            lambda *place: _where(place, lines, str(path)),
        )
    return _validate(tree, lines, str(path), is_of_run)


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
            parsed.append((tuple(key.strip().split(".")), yaml.load(value, Loader)))
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
    return yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def dump_value(value: Any) -> str:
    """Return a value as YAML in one line, such as `{from_train: 2000}`."""
    flow = yaml.dump(value, Dumper=Dumper, default_flow_style=True, sort_keys=False,
                     allow_unicode=True, width=MAX_INT)  # fmt: skip
    return str(flow).removesuffix("...\n").strip()


def check_text(text: str, path: str) -> Config:
    """Return the configuration in a text that is about to be written to `path`."""
    return _validate(*parse_tree(text, path), path, is_of_run=False)


def _put(tree: dict[str, Any], place: KeyPath, value: Any) -> None:
    """Set one value, and create missing sections on its path.

    Copies the sections on that path: aliases of YAML share theirs with other places.
    """
    here: Any = tree
    for name in place[:-1]:
        key: Any = _index(here, name, place) if isinstance(here, list) else name
        inner = here[key] if isinstance(here, list) else here.get(key)
        if not isinstance(inner, dict | list | None):
            raise UserError(f"--set {spell(place)}: {name} is a value, not a section")
        here[key] = copy(inner) if inner is not None else {}
        here = here[key]
    if isinstance(here, list):
        here[_index(here, place[-1], place)] = value
    else:
        here[place[-1]] = value


def _index(items: list[Any], key: str, place: KeyPath) -> int:
    if not key.isdigit() or int(key) >= len(items):
        raise UserError(
            f"--set {spell(place)}: {key} is not one of the list's {len(items)} items, from 0"
        )
    return int(key)


def _validate(
    tree: dict[str, Any], lines: dict[KeyPath, str], path: str, is_of_run: bool
) -> Config:
    try:
        return Config.model_validate(tree, context={"is_of_run": is_of_run})
    except ValidationError as error:
        raise explained(error, lines, path, _section) from None


def explained(
    error: ValidationError,
    lines: Mapping[KeyPath, str],
    path: str,
    section_at: Callable[[Location], type[BaseModel] | None],
) -> UserError:
    """Return the error with one line per problem; `section_at` finds a section by location."""
    problems = [_explain(problem, lines, path, section_at) for problem in error.errors()
                if problem["type"] != "default_factory_not_called"]  # fmt: skip
    return UserError("\n".join(dict.fromkeys(problems)))


def _explain(
    problem: Any,
    lines: Mapping[KeyPath, str],
    path: str,
    section_at: Callable[[Location], type[BaseModel] | None],
) -> str:
    # leave out <pair> and the like: pydantic's names for members of a union, not keys
    place = tuple(str(key) for key in problem["loc"] if not re.fullmatch("<.+>", str(key)))
    where = _where(place, lines, path)
    key = spell(place)
    kind, message = problem["type"], str(problem["msg"])
    if kind == "extra_forbidden":
        return f"{where}: unknown key {key}{_nearest(problem['loc'], section_at)}"
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


def _where(place: KeyPath, lines: Mapping[KeyPath, str], path: str) -> str:
    """Return the line of the innermost key on the way to `place` that the file contains."""
    known = (place[:length] for length in range(len(place), -1, -1))
    return next((lines[key] for key in known if key in lines), path)


def _nearest(loc: Location, section_at: Callable[[Location], type[BaseModel] | None]) -> str:
    key, section = str(loc[-1]), section_at(loc[:-1])
    if section in MODEL_SECTIONS.values():
        of_others = [tag.strip("<>") for tag, other in MODEL_SECTIONS.items()
                     if key in other.model_fields]  # fmt: skip
        if of_others:
            return f"; it is a key of {' and '.join(of_others)} models"
    return _suggest(key, list(section.model_fields) if section else [])


def _suggest(name: str, names: Sequence[str]) -> str:
    return nearest_name(name, names) or (f"; known here: {', '.join(names)}" if names else "")


def _section(loc: Location) -> type[BaseModel] | None:
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
