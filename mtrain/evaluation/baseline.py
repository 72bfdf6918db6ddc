"""A baseline on disk: translations that later ones are compared with, and digests of their texts.

Holds hypotheses, scores, and digests of sources and references. A comparison scores both systems
anew: a baseline of another version of sacreBLEU is accepted, other settings of a metric are not.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ValidationError

from mtrain import __version__
from mtrain.errors import UserError
from mtrain.evaluation.metrics import Score, signatures
from mtrain.evaluation.scored import ScoredSet, SetTexts
from mtrain.text.lines import open_bytes

FORMAT = 1


class SavedSet(BaseModel):
    """One set of a baseline."""

    name: str
    direction: str
    sources: str | None  # SHA-256; None if the sources were not given
    references: list[str]  # SHA-256 of each
    scores: list[Score]
    hypotheses: list[str]


class _File(BaseModel):
    format: int
    mtrain: str
    sets: list[SavedSet]


class Baseline:
    """The sets of a baseline file."""

    def __init__(self, path: Path, sets: Sequence[SavedSet]) -> None:
        self.path = path
        self._sets = sets

    def hypotheses(self, texts: Sequence[SetTexts]) -> dict[str, list[str]]:
        """Return the saved hypotheses of the given sets, by name.

        A file of hypotheses may have any name. Raises UserError, with all differences, unless the
        baseline has exactly these sets, with the same texts and metrics.
        """
        saved = {entry.name: entry for entry in self._sets}
        if not texts[0].direction and len(self._sets) == 1:
            saved = {texts[0].name: self._sets[0]}
        names = [text.name for text in texts]
        problems = [f"there is no set {name} in it" for name in names if name not in saved]
        problems += [f"it has a set {name}, which is not scored now"
                     for name in saved if name not in names]  # fmt: skip
        problems += [f"{text.name}: {difference}" for text in texts if text.name in saved
                     for difference in _differences(saved[text.name], text)]  # fmt: skip
        if problems:
            raise UserError(
                "\n".join(f"{self.path}: {problem}" for problem in problems), _remedy(self.path)
            )
        return {text.name: saved[text.name].hypotheses for text in texts}


def read_baseline(path: Path) -> Baseline:
    """Read a baseline; raise UserError if it is missing, cut short, or no baseline at all."""
    with open_bytes(path) as file:
        content = file.read()
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, f"it is not JSON, or is cut short ({error})") from None
    written = found.get("format") if isinstance(found, dict) else None
    if written is None:
        raise _unreadable(path, "it has no format number")
    if written != FORMAT:
        raise UserError(
            f"{path}: a baseline of format {written}; this version of mtrain reads {FORMAT}",
            _remedy(path),
        )
    try:
        return Baseline(path, _File.model_validate_json(content).sets)
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{place}: " for place in first["loc"])
        raise _unreadable(path, f"{where}{first['msg']}") from None


def write_baseline(file: BinaryIO, scored: Sequence[ScoredSet]) -> None:
    """Write a baseline of scored translations."""
    sets = [_saved(entry, entry.texts) for entry in scored if entry.texts is not None]
    content = _File(format=FORMAT, mtrain=__version__, sets=sets).model_dump()
    file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def _saved(scored: ScoredSet, texts: SetTexts) -> SavedSet:
    return SavedSet(
        name=scored.name,
        direction=scored.direction,
        sources=_digest(texts.sources) if texts.sources else None,
        references=_digests(texts),
        scores=scored.scores,
        hypotheses=list(texts.hypotheses),
    )


def _differences(saved: SavedSet, texts: SetTexts) -> Iterator[str]:
    """Yield what of a saved set does not fit the texts that are scored now."""
    if texts.sources and saved.sources not in (None, _digest(texts.sources)):
        yield "the sources are others now"
    num_lines = len(texts.references[0])
    if saved.references != _digests(texts):
        yield "the references are others now"
    elif len(saved.hypotheses) != num_lines:
        yield f"it has {len(saved.hypotheses)} hypotheses for {num_lines} lines"
    if len(saved.references) != len(texts.references):
        return  # the signatures hold the number of references
    current = signatures(texts.languages[1], len(texts.references), texts.metrics)
    before = {score.name: score.signature for score in saved.scores}
    for name, signature in current.items():
        if _settings(before.get(name, "")) != _settings(signature):
            yield f"{name} was computed with {before.get(name, 'nothing')}, now with {signature}"


def _settings(signature: str) -> list[str]:
    return [part for part in signature.split("|") if not part.startswith("version:")]


def _digests(texts: SetTexts) -> list[str]:
    return sorted(map(_digest, texts.references))


def _digest(lines: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def _unreadable(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path}: this is no baseline that --save-baseline wrote: {problem}", _remedy(path)
    )


def _remedy(path: Path) -> str:
    return f"save it again: score the model or file that it stands for with --save-baseline {path}"
