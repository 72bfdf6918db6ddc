"""Which training pairs are left out, and the ledger of how many and which.

Knows pairs of cleaned text and pairs of token counts; nothing of files or tokenizers.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from mtrain.config.schema import FilterConfig
from mtrain.text.lines import clean_line, decode_line

KEPT = 0
REASONS = ("kept", "invalid_utf8", "empty", "identical", "duplicate", "overlap", "length", "ratio")
CODES = {reason: code for code, reason in enumerate(REASONS)}
MIN_TOKENS_FOR_RATIO = 10
SAMPLES_PER_REASON = 3
SAMPLE_CHARACTERS = 120


def judge_text(raw_source: bytes, raw_target: bytes, filters: FilterConfig) -> tuple[str, str, int]:
    """Return both sides cleaned, and `KEPT` or the code of the reason to leave the pair out."""
    source, source_valid = decode_line(raw_source)
    target, target_valid = decode_line(raw_target)
    source, target = clean_line(source), clean_line(target)
    if not (source_valid and target_valid):
        return source, target, CODES["invalid_utf8"]
    if not source or not target:
        return source, target, CODES["empty"]
    if filters.drop_identical and source == target:
        return source, target, CODES["identical"]
    return source, target, KEPT


def judge_lengths(num_source: int, num_target: int, filters: FilterConfig) -> int:
    """Return `KEPT` or the reason's code for a pair of token counts, without end of sentence."""
    shorter, longer = sorted((num_source, num_target))
    if not shorter:  # nothing but characters that the tokenizer leaves out
        return CODES["empty"]
    if longer + 1 > filters.max_tokens:
        return CODES["length"]
    if longer > MIN_TOKENS_FOR_RATIO and longer > filters.max_ratio * shorter:
        return CODES["ratio"]
    return KEPT


def pair_hash(source: str, target: str) -> int:
    """Return 64 bits that stand for a pair in the search for equal ones.

    Two different pairs of ten million share a hash with a chance of 3 in a million.
    """
    text = f"{source}\n{target}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


@dataclass
class Ledger:
    """Counts and a few samples of what became of the pairs of one corpus."""

    corpus: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    samples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def note(self, code: int, source: str, target: str) -> None:
        """Count a pair under its reason, and keep it if it is one of the first."""
        reason = REASONS[code]
        self.counts[reason] += 1
        if code != KEPT:
            samples = self.samples.setdefault(reason, [])
            if len(samples) < SAMPLES_PER_REASON:
                samples.append((source[:SAMPLE_CHARACTERS], target[:SAMPLE_CHARACTERS]))

    def as_dict(self) -> dict[str, Any]:
        """Return it for the manifest."""
        return {"corpus": self.corpus, "counts": self.counts, "samples": self.samples}
