"""A behaviour suite: sources in groups, and what must hold of their translations. A YAML file."""

import re
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError, field_validator

from mtrain.config.corpora import LanguageCode, Languages
from mtrain.config.load import Location, explained
from mtrain.config.section import PositiveInt, Section
from mtrain.config.yaml_lines import read_tree

Text = Annotated[str, Field(min_length=1)]
Some = TypeVar("Some", bound=Sized)


def _not_empty(cases: Some) -> Some:
    if not cases:
        raise ValueError("there is no case here")
    return cases


class Expectations(Section):
    """A source and what must hold of its translation."""

    source: Text
    """the text to translate, one line"""
    keeps: list[Text] = Field(default_factory=list)
    """what the translation must contain as it is; a number must not be part of a longer one"""
    equals: Text | None = None
    """the translation"""
    matches: Text | None = None
    """a regular expression of Python that must be found in the translation"""
    max_words: PositiveInt | None = None
    """the most words that it may have; characters in a language without spaces between words"""

    @field_validator("source")
    @classmethod
    def _is_one_line(cls, source: str) -> str:
        if not source.strip() or len(source.splitlines()) > 1:
            raise ValueError("a source is one line of text")
        return source

    @field_validator("matches")
    @classmethod
    def _is_a_pattern(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"{pattern} is not a regular expression: {error}") from None
        return pattern


class SuiteFile(Section):
    """The keys of a suite."""

    source_lang: LanguageCode
    target_lang: LanguageCode
    cases: Annotated[
        dict[str, Annotated[list[Expectations], AfterValidator(_not_empty)]],
        AfterValidator(_not_empty),
    ]
    """the cases of each group, by its name"""


@dataclass(frozen=True)
class Case:
    """A case of a suite."""

    group: str
    where: str  # file and line
    expected: Expectations


@dataclass(frozen=True)
class Suite:
    """The cases of a suite, in the file's order."""

    path: Path
    languages: Languages
    cases: tuple[Case, ...]


def load_suite(path: Path) -> Suite:
    """Read a suite. Raises UserError, with the line of each problem, if it is not one."""
    tree, lines = read_tree(path, "suite")
    try:
        read = SuiteFile.model_validate(tree)
    except ValidationError as error:
        raise explained(error, lines, str(path), _section) from None
    cases = [
        Case(group, lines["cases", group, str(number)], expected)
        for group, each in read.cases.items()
        for number, expected in enumerate(each)
    ]
    return Suite(path, (read.source_lang, read.target_lang), tuple(cases))


def _section(loc: Location) -> type[BaseModel] | None:
    """Return the type of the section at a location."""
    return Expectations if loc else SuiteFile
