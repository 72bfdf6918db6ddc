"""The checks of `data.filters.checks` in a build: drops what fails, samples what would fail.

Checks that are left out are tried on the first pairs of each corpus; the results are reported but
drop nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from mtrain.config.corpora import Languages
from mtrain.config.data import Check, DataConfig
from mtrain.data.duplicates import mark_duplicates
from mtrain.text.characters import Texts
from mtrain.text.dirt import CHECKS, Block, near_hashes
from mtrain.text.filters import CODES, KEPT, SAMPLE_CHARACTERS, Codes
from mtrain.text.identification import MAX_CHARACTERS, is_installed, require_identifier

NEAR = "near_duplicates"
# How many of the first pairs of a corpus are tried on what is left out. `language` is slow: it sees
# fewer, and none of a smaller corpus.
SAMPLE_PAIRS, LANGUAGE_PAIRS = 5000, 1000
HASHES_NAME = "near-hashes"


class Dirt:
    """Judges the training pairs of a build, block by block; a context manager.

    Keeps eight bytes a pair in `folder` for `near_duplicates`. Raises UserError if `language` is
    asked for and its extra is not installed.
    """

    def __init__(self, data: DataConfig, folder: Path) -> None:
        self._data = data
        self._chosen = set(data.filters.checks)
        if "language" in self._chosen:
            require_identifier("data.filters.checks: language")
        self._samples = [_Sample(data, data.languages_of(corpus)) for corpus in data.train]
        self._path = folder / HASHES_NAME
        self._hashes = self._path.open("wb") if NEAR in self._chosen else None

    def __enter__(self) -> "Dirt":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._hashes:
            self._hashes.close()

    def judge(
        self, corpus: int, sources: Sequence[str], targets: Sequence[str], codes: Codes
    ) -> None:
        """Set the codes of the kept pairs of a block that fail a check."""
        if not self._chosen:
            return
        languages = self._data.languages_of(self._data.train[corpus])
        block = Block(Texts(sources), Texts(targets), languages, codes == KEPT)
        for check in filter(self._chosen.__contains__, CHECKS):
            fails = CHECKS[check](block) & block.is_open
            codes[fails] = CODES[check]
            block.is_open[fails] = False
        if self._hashes:
            marks = self._data.marks_of(languages)
            self._hashes.write(near_hashes(block, marks).tobytes())

    def sample(
        self,
        corpus: int,
        sources: Sequence[str],
        targets: Sequence[str],
        codes: Codes,
        hashes: npt.NDArray[np.int64],
    ) -> None:
        """Try the checks that are left out on a block, if it is among the first of its corpus."""
        self._samples[corpus].look(sources, targets, codes, hashes)

    def mark_near(self, verdicts: npt.NDArray[np.uint8]) -> None:
        """After the last block: mark kept pairs that are near duplicates of an earlier one."""
        if self._hashes:
            self._hashes.close()
            mark_duplicates(np.memmap(self._path, np.int64, "r"), verdicts, CODES[NEAR])

    def would_drop(self) -> list[dict[str, Any]]:
        """Return for each corpus what the checks that are left out would drop, for the manifest."""
        return [sample.found() for sample in self._samples]


class _Sample:
    """Tries the checks that are left out on the first pairs of one corpus."""

    def __init__(self, data: DataConfig, languages: Languages) -> None:
        self._languages, self._marks = languages, data.marks_of(languages)
        self._drop_duplicates = data.filters.drop_duplicates
        left_out = [check for check in get_args(Check) if check not in data.filters.checks]
        if not is_installed():
            left_out = [check for check in left_out if check != "language"]
        self._counts = dict.fromkeys(left_out, 0)
        self._examples: dict[str, tuple[str, str]] = {}
        self._num_seen = 0
        self._hashes: set[int] = set()  # of kept pairs
        self._near_hashes: set[int] = set()  # of their normal forms
        self._for_language: list[tuple[str, str]] = []  # the first pairs, cut

    def look(
        self,
        sources: Sequence[str],
        targets: Sequence[str],
        codes: Codes,
        hashes: npt.NDArray[np.int64],
    ) -> None:
        """Look at a block, as far as it belongs to the first pairs."""
        room = SAMPLE_PAIRS - self._num_seen
        if room <= 0 or not self._counts:
            return
        sides, is_kept = (Texts(sources[:room]), Texts(targets[:room])), codes[:room] == KEPT
        block = Block(*sides, self._languages, is_kept)
        for check in self._counts:
            if check != "language":
                fails = self._repeats(block, hashes) if check == NEAR else CHECKS[check](block)
                self._note(check, fails & is_kept, sources, targets)
        if "language" in self._counts:
            rows = np.flatnonzero(is_kept[: max(0, LANGUAGE_PAIRS - self._num_seen)]).tolist()
            cut = slice(MAX_CHARACTERS)
            self._for_language += [(sources[row][cut], targets[row][cut]) for row in rows]
        self._num_seen += len(is_kept)

    def _repeats(self, block: Block, hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return the pairs that are near duplicates of earlier ones, not mere duplicates."""
        repeats = np.zeros(len(block.is_open), bool)
        near = near_hashes(block, self._marks).tolist()
        for row in np.flatnonzero(block.is_open).tolist():
            if self._drop_duplicates and hashes[row] in self._hashes:
                continue
            repeats[row] = near[row] in self._near_hashes
            self._hashes.add(int(hashes[row]))
            self._near_hashes.add(near[row])
        return repeats

    def _note(
        self,
        check: str,
        fails: npt.NDArray[np.bool_],
        sources: Sequence[str],
        targets: Sequence[str],
    ) -> None:
        rows = np.flatnonzero(fails).tolist()
        self._counts[check] += len(rows)
        for row in rows[:1]:
            cut = slice(SAMPLE_CHARACTERS)
            self._examples.setdefault(check, (sources[row][cut], targets[row][cut]))

    def found(self) -> dict[str, dict[str, Any]]:
        """Return by check: its count, of how many pairs, and an example; without empty ones."""
        if self._for_language and self._num_seen >= LANGUAGE_PAIRS:
            sources, targets = zip(*self._for_language, strict=True)
            sides, is_open = (Texts(sources), Texts(targets)), np.ones(len(sources), bool)
            fails = CHECKS["language"](Block(*sides, self._languages, is_open))
            self._note("language", fails, sources, targets)
        return {
            check: {
                "count": count,
                "of": LANGUAGE_PAIRS if check == "language" else self._num_seen,
                "example": list(self._examples[check]),
            }
            for check, count in self._counts.items()
            if count
        }
