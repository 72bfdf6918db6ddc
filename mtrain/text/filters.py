"""Which training pairs are left out, and the ledger of how many and which.

Knows blocks of pairs of text and of token counts; nothing of files or tokenizers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrain.config.data import FilterConfig
from mtrain.text.lines import clean_lines

KEPT = 0
REASONS = ("kept", "invalid_utf8", "empty", "identical", "duplicate", "overlap", "length", "ratio")
CODES = {reason: code for code, reason in enumerate(REASONS)}
MIN_TOKENS_FOR_RATIO = 10
SAMPLES_PER_REASON = 3
SAMPLE_CHARACTERS = 120

Codes = npt.NDArray[np.uint8]  # of each pair, `KEPT` or the reason to leave it out
Integers = npt.NDArray[np.int64]


def judge_texts(
    raw_sources: Sequence[bytes], raw_targets: Sequence[bytes], filters: FilterConfig
) -> tuple[list[str], list[str], Codes]:
    """Return both sides cleaned, and what each pair's text alone says against it."""
    sources, sources_valid = clean_lines(raw_sources)
    targets, targets_valid = clean_lines(raw_targets)
    codes = np.zeros(len(sources), np.uint8)
    if filters.drop_identical:
        codes[list(map(str.__eq__, sources, targets))] = CODES["identical"]
    codes[[not source or not target for source, target in zip(sources, targets, strict=True)]] = (
        CODES["empty"]
    )
    codes[~(np.array(sources_valid, bool) & np.array(targets_valid, bool))] = CODES["invalid_utf8"]
    return sources, targets, codes


def judge_lengths(num_source: Integers, num_target: Integers, filters: FilterConfig) -> Codes:
    """Return what the token counts of pairs, without end of sentence, say against them."""
    shorter, longer = np.minimum(num_source, num_target), np.maximum(num_source, num_target)
    codes = np.zeros(len(shorter), np.uint8)
    is_uneven = (longer > MIN_TOKENS_FOR_RATIO) & (longer > filters.max_ratio * shorter)
    codes[is_uneven] = CODES["ratio"]
    codes[longer + 1 > filters.max_tokens] = CODES["length"]
    codes[shorter == 0] = CODES["empty"]  # nothing but characters that the tokenizer leaves out
    return codes


def pair_hashes(sources: Sequence[str], targets: Sequence[str]) -> Integers:
    """Return 64 bits that stand for each pair in the search for equal ones of this process.

    Two different pairs of ten million share a hash with a chance of 3 in a million.
    """
    return np.fromiter(map(hash, zip(sources, targets, strict=True)), np.int64, len(sources))


@dataclass
class Ledger:
    """Counts and a few samples of what became of the pairs of one corpus."""

    corpus: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    samples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def note(self, codes: Codes, sources: Sequence[str], targets: Sequence[str]) -> None:
        """Count pairs by their codes, and keep the first few of each that is left out."""
        for code in np.unique(codes).tolist():
            reason, places = REASONS[code], np.flatnonzero(codes == code)
            self.counts[reason] += len(places)
            if code != KEPT:
                samples = self.samples.setdefault(reason, [])
                for place in places[: SAMPLES_PER_REASON - len(samples)].tolist():
                    cut = slice(SAMPLE_CHARACTERS)
                    samples.append((sources[place][cut], targets[place][cut]))

    def as_dict(self) -> dict[str, Any]:
        """Return it for the manifest."""
        return {"corpus": self.corpus, "counts": self.counts, "samples": self.samples}
