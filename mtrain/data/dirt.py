"""The checks of `data.filters.checks` in a build: what fails, and what others would drop.

Checks that are left out are tried on the first pairs of each corpus; the results are reported but
drop nothing.
"""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from mtrain.config.corpora import Languages
from mtrain.config.data import Check, DataConfig
from mtrain.text.characters import Texts
from mtrain.text.dirt import CHECKS, Block, Failures, near_hashes
from mtrain.text.filters import CODES, KEPT, SAMPLE_CHARACTERS, Codes
from mtrain.text.identification import MAX_CHARACTERS, is_installed, require_identifier

NEAR = "near_duplicates"
# How many of the first pairs of a corpus are tried on what is left out; they are in its first
# block. `language` is slow: it sees fewer, and none of a smaller corpus.
SAMPLE_PAIRS, LANGUAGE_PAIRS = 5000, 1000

Hashes = npt.NDArray[np.int64]  # of each pair


class Dirt:
    """Judges the training pairs of a build, block by block; each block independently.

    Raises UserError if `language` is asked for and its extra is not installed.
    """

    def __init__(self, data: DataConfig) -> None:
        self._data = data
        self._chosen = set(data.filters.checks)
        if "language" in self._chosen:
            require_identifier("data.filters.checks: language")
        self._left_out = [check for check in get_args(Check) if check not in self._chosen
                          and (check != "language" or is_installed())]  # fmt: skip

    def judge(
        self, corpus: int, sources: Sequence[str], targets: Sequence[str], codes: Codes
    ) -> Hashes | None:
        """Set the codes of the kept pairs of a block that fail a check.

        Return a hash of each pair's normal form if near duplicates are to be dropped.
        """
        if not self._chosen:
            return None
        languages = self._languages_of(corpus)
        block = Block(Texts(sources), Texts(targets), languages, codes == KEPT)
        for check in filter(self._chosen.__contains__, CHECKS):
            fails = CHECKS[check](block) & block.is_open
            codes[fails] = CODES[check]
            block.is_open[fails] = False
        return near_hashes(block, self._data.marks_of(languages)) if NEAR in self._chosen else None

    def would_drop(
        self,
        corpus: int,
        sources: Sequence[str],
        targets: Sequence[str],
        codes: Codes,
        hashes: Hashes,
    ) -> dict[str, dict[str, Any]]:
        """Try the checks that are left out on the kept pairs of a corpus's first block.

        Return by check: its count, of how many pairs, and an example; without empty ones.
        """
        if not self._left_out:
            return {}
        sources, targets = sources[:SAMPLE_PAIRS], targets[:SAMPLE_PAIRS]
        is_kept, languages = codes[:SAMPLE_PAIRS] == KEPT, self._languages_of(corpus)
        block = Block(Texts(sources), Texts(targets), languages, is_kept)
        found = {}
        for check in self._left_out:
            if check == NEAR:
                fails = self._repeats(block, hashes)
            elif check == "language":
                fails = _in_another_language(block)
            else:
                fails = CHECKS[check](block)
            rows = np.flatnonzero(fails & is_kept).tolist()
            if rows:
                cut = slice(SAMPLE_CHARACTERS)
                num_tried = LANGUAGE_PAIRS if check == "language" else len(sources)
                example = [sources[rows[0]][cut], targets[rows[0]][cut]]
                found[check] = {"count": len(rows), "of": num_tried, "example": example}
        return found

    def _languages_of(self, corpus: int) -> Languages:
        return self._data.languages_of(self._data.train[corpus])

    def _repeats(self, block: Block, hashes: Hashes) -> Failures:
        """Return the pairs that are near duplicates of earlier ones, not mere duplicates."""
        repeats = np.zeros(len(block.is_open), bool)
        near = near_hashes(block, self._data.marks_of(block.languages)).tolist()
        seen: set[int] = set()  # hashes of open pairs
        seen_near: set[int] = set()  # of their normal forms
        for row in np.flatnonzero(block.is_open).tolist():
            if self._data.filters.drop_duplicates and hashes[row] in seen:
                continue
            repeats[row] = near[row] in seen_near
            seen.add(int(hashes[row]))
            seen_near.add(near[row])
        return repeats


def _in_another_language(block: Block) -> Failures:
    """Return the pairs in another language among the first open ones, if there are enough pairs."""
    fails = np.zeros(len(block.is_open), bool)
    rows = np.flatnonzero(block.is_open[:LANGUAGE_PAIRS])
    if len(fails) >= LANGUAGE_PAIRS and len(rows):
        source, target = (Texts([side.texts[row][:MAX_CHARACTERS] for row in rows.tolist()])
                          for side in (block.source, block.target))  # fmt: skip
        fails[rows] = CHECKS["language"](
            Block(source, target, block.languages, np.ones(len(rows), bool))
        )
    return fails
