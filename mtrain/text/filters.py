"""Filters of training pairs, and a ledger that counts and samples the dropped pairs.

Works on blocks of text pairs and of token counts; independent of files and tokenizers.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from mtrain.config.data import Check, FilterConfig
from mtrain.errors import UserError
from mtrain.text.encoding import ENCODING_HINT
from mtrain.text.lines import clean_lines

KEPT = 0
BASIC_REASONS = ("kept", "invalid_utf8", "empty", "identical", "held_out", "duplicate", "overlap",
                 "length", "ratio")  # fmt: skip
REASONS = (*BASIC_REASONS, *get_args(Check))  # and the checks of data.filters.checks, if asked for
WORDS = {
    "invalid_utf8": "not UTF-8",
    "empty": "empty on a side",
    "identical": "the same on both sides",
    "held_out": "taken for valid or test",
    "duplicate": "as an earlier one",
    "overlap": "also in valid, watch or test",
    "length": "longer than data.filters.max_tokens",
    "ratio": "more uneven than data.filters.max_ratio",
    "language": "in another language on a side",
    "script": "in another script on a side",
    "letters": "symbols, numbers, URLs or mojibake on a side, not words",
    "numbers": "of different numbers on the two sides",
    "html": "with HTML that one side alone has",
    "near_duplicates": "as an earlier one but for case, punctuation and spaces",
    "sentences": "of at least two more sentences on one side",
}  # the reasons as messages word them
CODES = {reason: code for code, reason in enumerate(REASONS)}
MIN_TOKENS_FOR_RATIO = 10
SAMPLES_PER_REASON = 3
SAMPLE_CHARACTERS = 120

Codes = npt.NDArray[np.uint8]  # for each pair, `KEPT` or the reason to drop it
Integers = npt.NDArray[np.int64]


def judge_texts(
    raw_sources: Sequence[bytes],
    raw_targets: Sequence[bytes],
    filters: FilterConfig,
    is_text: bool = False,
) -> tuple[list[str], list[str], Codes]:
    """Return both sides cleaned, and the code of each pair, judged by its text alone.

    `is_text` says that both sides are meant to be the same.
    """
    sources, sources_valid = clean_lines(raw_sources)
    targets, targets_valid = (sources, sources_valid) if is_text else clean_lines(raw_targets)
    codes = np.zeros(len(sources), np.uint8)
    if filters.drop_identical and not is_text:
        codes[list(map(str.__eq__, sources, targets))] = CODES["identical"]
    codes[[not source or not target for source, target in zip(sources, targets, strict=True)]] = (
        CODES["empty"]
    )
    codes[~(np.array(sources_valid, bool) & np.array(targets_valid, bool))] = CODES["invalid_utf8"]
    return sources, targets, codes


def judge_lengths(num_source: Integers, num_target: Integers, filters: FilterConfig) -> Codes:
    """Return the code of each pair, judged by its token counts without end of sentence."""
    shorter, longer = np.minimum(num_source, num_target), np.maximum(num_source, num_target)
    codes = np.zeros(len(shorter), np.uint8)
    is_uneven = (longer > MIN_TOKENS_FOR_RATIO) & (longer > filters.max_ratio * shorter)
    codes[is_uneven] = CODES["ratio"]
    codes[longer + 1 > filters.max_tokens] = CODES["length"]
    codes[shorter == 0] = CODES["empty"]  # only characters that the tokenizer drops
    return codes


def pair_hashes(
    sources: Sequence[str], targets: Sequence[str], languages: Sequence[str] = ()
) -> Integers:
    """Return a 64-bit hash of each pair, and of its languages if given, the same in every process.

    Among ten million different pairs, the chance of a collision is 3 in a million.
    """
    # cleaned text holds no NUL
    form = "\0".join(("{}", "{}", *languages))
    return text_hashes(list(map(form.format, sources, targets)))


def text_hashes(texts: Sequence[str]) -> Integers:
    """Return a 64-bit hash of each text, the same in every process."""
    return np.fromiter(
        (xxh3_64_intdigest(text.encode()) for text in texts), np.uint64, len(texts)
    ).view(np.int64)


@dataclass
class Ledger:
    """Counts of one corpus's pairs by reason, a few samples of each, and oddities of its text.

    `same_text` counts pairs with the same text on both sides, kept or not. `header` is the first
    pair if it looks like column names.
    """

    corpus: str
    seen: int = 0  # pairs
    same_text: int = 0
    header: tuple[str, str] | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(BASIC_REASONS, 0))
    samples: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def note(
        self,
        codes: Codes,
        sources: Sequence[str],
        targets: Sequence[str],
        besides: int | None = None,
    ) -> None:
        """Count pairs by code, and keep the first few dropped pairs of each code as samples.

        Skips pairs of the code `besides`.
        """
        for code in np.unique(codes[codes != besides]).tolist():
            reason, places = REASONS[code], np.flatnonzero(codes == code)
            self.counts[reason] = self.counts.get(reason, 0) + len(places)
            if code != KEPT:
                samples = self.samples.setdefault(reason, [])
                for place in places[: SAMPLES_PER_REASON - len(samples)].tolist():
                    cut = slice(SAMPLE_CHARACTERS)
                    samples.append((sources[place][cut], targets[place][cut]))

    def add(self, later: "Ledger") -> None:
        """Add the ledger of pairs that come after these in the corpus."""
        self.seen += later.seen
        self.same_text += later.same_text
        self.header = self.header or later.header
        for reason, count in later.counts.items():
            self.counts[reason] = self.counts.get(reason, 0) + count
        for reason, found in later.samples.items():
            samples = self.samples.setdefault(reason, [])
            samples += found[: SAMPLES_PER_REASON - len(samples)]

    def as_dict(self) -> dict[str, Any]:
        """Return the ledger for the manifest."""
        return asdict(self)

    @staticmethod
    def from_dict(told: dict[str, Any]) -> "Ledger":
        """Return the ledger that `as_dict` told, read from JSON."""
        samples = {reason: [(source, target) for source, target in found]
                   for reason, found in told["samples"].items()}  # fmt: skip
        header = tuple(told["header"]) if told["header"] else None
        return Ledger(**(told | {"samples": samples, "header": header}))

    def tell(self) -> str:
        """Return one line for each reason to drop pairs, with its count and first sample."""
        return "\n".join(
            f"{self.corpus}: {self.counts[reason]:,} of {self.seen:,} pairs are {WORDS[reason]}, "
            f"for example {tell_pair(source, target)}"
            for reason, [(source, target), *_] in self.samples.items()
        )


def tell_pair(source: str, target: str) -> str:
    """Return both sides of a pair for people to read; the text once where both are the same."""
    return repr(source) if source == target else f"{source!r} | {target!r}"


def nothing_left(ledgers: Sequence[Ledger]) -> UserError:
    """Return the error for filters that drop every pair, with all their reasons."""
    hints = ["look at data.filters, and at the source and the target of each corpus"]
    if any(ledger.counts["invalid_utf8"] for ledger in ledgers):
        hints.append(ENCODING_HINT)
    reasons = "\n".join(filter(None, (ledger.tell() for ledger in ledgers)))
    return UserError(f"data.train: the filters leave not one pair\n{reasons}", "\n".join(hints))
