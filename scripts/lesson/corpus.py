"""The lesson's corpus: pairs of several files, split by source so that no source is in two sets.

Valid and test take sentences of each length range up to a quota, so that quality can be measured
by length; all others are for training.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from mtrain.config.corpora import PairFiles
from mtrain.text.corpora import read_pairs
from mtrain.text.lines import clean_bytes

SEED = "mtrain lesson 1"
HELD_OUT_SHARE = 0.08  # of the sources, for valid and test together
LENGTHS = (5, 10, 15, 20, 30, 40, 60, 10_000)  # upper bounds of the length ranges, in words
QUOTA = 150  # maximum test sentences per range; valid has a third of it
SETS = ("train", "valid", "test")

Pair = tuple[str, str]


def split(corpora: Iterable[tuple[Path, Path]]) -> dict[str, list[Pair]]:
    """Return the deduplicated pairs of each set; the digest of its source decides a pair's set."""
    sets: dict[str, list[Pair]] = {name: [] for name in SETS}
    counts: dict[tuple[str, int], int] = defaultdict(int)
    place_of: dict[str, str] = {}
    held_out: set[str] = set()
    for source, target in dict.fromkeys(_pairs(corpora)):
        if source not in place_of:
            place_of[source] = _place(source, counts)
        if place_of[source] == "train":
            sets["train"].append((source, target))
        elif source not in held_out:  # one translation per source
            held_out.add(source)
            sets[place_of[source]].append((source, target))
    return sets


def _pairs(corpora: Iterable[tuple[Path, Path]]) -> Iterator[Pair]:
    for source_path, target_path in corpora:
        files = PairFiles(source=source_path, target=target_path)
        for source, target in read_pairs(files, ("", "")):
            pair = clean_bytes(source), clean_bytes(target)
            if all(pair):
                yield pair


def _place(source: str, counts: dict[tuple[str, int], int]) -> str:
    digest = hashlib.blake2b(f"{SEED}/{source}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "little")
    if number / 2**64 < HELD_OUT_SHARE:
        words = len(source.split())
        bound = next(bound for bound in LENGTHS if words <= bound)
        name, quota = ("test", QUOTA) if number % 4 else ("valid", QUOTA // 3)
        if counts[name, bound] < quota:
            counts[name, bound] += 1
            return name
    return "train"


def join(sets: dict[str, list[Pair]], most: int) -> dict[str, list[Pair]]:
    """Return each set with its pairs joined in ones, twos, and so on up to `most`.

    Each pair is in one text of each size, so long texts are as plain as short ones. Texts join
    pairs of one set only. The quotas of the held-out sets hold for the joined texts.
    """
    joined: dict[str, list[Pair]] = {}
    for name, pairs in sets.items():
        found: list[Pair] = []
        for size in range(1, most + 1):
            order = random.Random(f"{SEED}/{name}/{size}").sample(pairs, len(pairs))
            groups = (order[start : start + size]
                      for start in range(0, len(order) - size + 1, size))  # fmt: skip
            found += [(" ".join(source for source, _ in group),
                       " ".join(target for _, target in group)) for group in groups]  # fmt: skip
        joined[name] = found if name == "train" else _within_quota(found, name)
    return joined


def _within_quota(pairs: list[Pair], name: str) -> list[Pair]:
    counts: dict[int, int] = defaultdict(int)
    kept = []
    for pair in random.Random(f"{SEED}/{name}").sample(pairs, len(pairs)):
        words = len(pair[0].split())
        bound = next(bound for bound in LENGTHS if words <= bound)
        counts[bound] += 1
        if counts[bound] <= (QUOTA if name == "test" else QUOTA // 3):
            kept.append(pair)
    return kept


def write(sets: dict[str, list[Pair]], folder: Path, languages: tuple[str, str]) -> None:
    """Write SET.LANGUAGE for each set and language."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pairs in sets.items():
        for side, language in enumerate(languages):
            text = "".join(f"{pair[side]}\n" for pair in pairs)
            (folder / f"{name}.{language}").write_text(text, "utf-8", newline="\n")


def near_duplicates(sets: dict[str, list[Pair]]) -> str:
    """Say how many test sources are in train when case, digits and punctuation are ignored."""
    known = {_skeleton(source) for source, _ in sets["train"]}
    count = sum(_skeleton(source) in known for source, _ in sets["test"])
    return (
        f"{count} of {len(sets['test'])} test sources are in train if case, digits and "
        "punctuation are ignored"
    )


def _skeleton(text: str) -> str:
    return "".join(sign for sign in text.lower() if sign.isalpha() or sign == " ").strip()
