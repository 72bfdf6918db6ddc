"""Dirty a clean corpus in known ways and count what the checks of `mtrain prepare` find.

    python scripts/dirt.py SOURCE TARGET WORK --languages en de [--pairs N] [--kinds KIND ...]

Takes a random sample of the pairs, prepares it clean with every check, which trains the tokenizer,
and then once for each kind of dirt with 2 % of the pairs dirtied. Prints a Markdown table: for each
kind the share of its pairs that were dropped, and for what; first of all for the clean pairs.
"""

import argparse
import gzip
import json
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from mtrain.config.data import Check

SHARE = 0.02
HELD_OUT_PAIRS = 20
CYRILLIC = dict(zip(map(ord, "abcdefghijklmnopqrstuvwxyz"), "абцдефгхийклмнопярстуввхыз",
                    strict=True))  # fmt: skip
Pair = tuple[str, str]
# Returns the dirty pair from a pair and the one after it, or None if that pair cannot be so dirty.
Dirtier = Callable[[Pair, Pair], Pair | None]


def _mojibake(pair: Pair, _: Pair) -> Pair | None:
    target = pair[1].encode().decode("latin-1")
    return (pair[0], target) if target != pair[1] else None


def _other_number(pair: Pair, _: Pair) -> Pair | None:
    target = re.sub(r"[0-9]", lambda digit: str((int(digit[0]) + 3) % 10), pair[1], count=1)
    return (pair[0], target) if target != pair[1] else None


KINDS: dict[str, Dirtier] = {
    "wrong language": lambda pair, after: (pair[0], after[0]),
    "swapped sides": lambda pair, _: (pair[1], pair[0]),
    "wrong script": lambda pair, _: (pair[0], pair[1].lower().translate(CYRILLIC)),
    "symbols": lambda pair, _: (pair[0], f"| {len(pair[1])} | -- | *** |"),
    "HTML tag": lambda pair, _: (pair[0], f'<a href="index">{pair[1]}</a>'),
    "HTML entity": lambda pair, _: (pair[0], f"&quot;{pair[1]}&quot;"),
    "changed number": _other_number,
    "shifted by a line": lambda pair, after: (pair[0], after[1]),
    "other case and punctuation": lambda pair, _: (f"- {pair[0].upper()}", pair[1].rstrip(".!?")),
    "truncated target": lambda pair, _: (pair[0], pair[1][: len(pair[1]) // 4] or pair[1]),
    "two more sentences": lambda pair, after: (pair[0], f"{pair[1]} {after[1]} {after[1]}"),
    "one more sentence": lambda pair, after: (pair[0], f"{pair[1]} {after[1]}"),
    "mojibake": _mojibake,
}
ADDED = ("other case and punctuation",)  # beside the clean pair, not in its place


def dirty(pairs: list[Pair], kind: str, seed: int = 1) -> tuple[list[Pair], int]:
    """Return the pairs with a share of them dirtied, and how many those are."""
    chosen, wanted = random.Random(seed), round(len(pairs) * SHARE)
    dirtied: dict[int, Pair] = {}
    for place in chosen.sample(range(len(pairs)), len(pairs)):
        found = KINDS[kind](pairs[place], pairs[(place + 1) % len(pairs)])
        if found is not None and len(dirtied) < wanted:
            dirtied[place] = found
    if kind in ADDED:
        return [*pairs, *dirtied.values()], len(dirtied)
    return [dirtied.get(place, pair) for place, pair in enumerate(pairs)], len(dirtied)


def main() -> None:
    """Prepare the corpus clean and with each kind of dirt, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="text file in the source language")
    parser.add_argument("target", type=Path, help="its translation, line by line")
    parser.add_argument("work", type=Path, help="folder for data; emptied first")
    parser.add_argument("--languages", nargs=2, required=True, help="two codes: en de")
    parser.add_argument("--pairs", type=int, default=20_000, help="default: 20000")
    parser.add_argument("--checks", nargs="*", default=get_args(Check), help="default: all")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    columns = (_read(path) for path in (options.source, options.target))
    everything = list(zip(*columns, strict=True))
    num_pairs = min(options.pairs + HELD_OUT_PAIRS, len(everything))
    pairs = random.Random(1).sample(everything, num_pairs)
    valid, pairs = pairs[:HELD_OUT_PAIRS], pairs[HELD_OUT_PAIRS:]
    _write(options.work / "valid", valid)
    clean = _dropped(options, pairs)
    print("| dirt | pairs | found | as |\n| --- | --- | --- | --- |")
    print(_row("none", clean, len(pairs)), flush=True)
    for kind in options.kinds:
        dirtied, count = dirty(pairs, kind)
        found = _dropped(options, dirtied) if count else {}
        more = {reason: found[reason] - clean.get(reason, 0) for reason in found}
        print(_row(kind, more, count), flush=True)


def _row(kind: str, found: dict[str, int], num_pairs: int) -> str:
    """Return a row of the table: reasons by the number of pairs, without the rarest."""
    total = sum(count for count in found.values() if count > 0)
    told = ", ".join(f"{reason} {count:,}" for reason, count in
                     sorted(found.items(), key=lambda item: -item[1]) if count > 0)  # fmt: skip
    return f"| {kind} | {num_pairs:,} | {100 * total / max(num_pairs, 1):.2f} % | {told} |"


def _dropped(options: argparse.Namespace, pairs: list[Pair]) -> dict[str, int]:
    """Prepare the pairs with every check; return how many were dropped for each reason."""
    work = options.work
    _write(work / "train", pairs)
    corpora = {name: [{side: str(work / f"{name}.{side}") for side in ("source", "target")}]
               for name in ("train", "valid")}  # fmt: skip
    source_lang, target_lang = options.languages
    data = {"source_lang": source_lang, "target_lang": target_lang, **corpora,
            "filters": {"checks": options.checks}}  # fmt: skip
    config: dict[str, Any] = {
        "run_dir": str(work / "run"),
        "data_dir": str(work / "data"),
        "data": data,
    }
    model = work / "shared.model"  # of the clean pairs
    config["tokenizer"] = {"path": str(model)} if model.is_file() else {"vocab_size": 1000}
    (work / "config.json").write_text(json.dumps(config), "utf-8")
    shutil.rmtree(work / "data", ignore_errors=True)
    command = [sys.executable, "-m", "mtrain", "prepare", str(work / "config.json")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    if not model.is_file():
        shutil.copy(work / "data" / "tokenizer" / "shared.model", model)
    manifest = json.loads((work / "data" / "manifest.json").read_text("utf-8"))
    counts: dict[str, int] = manifest["filtered"][0]["counts"]
    return {reason: count for reason, count in counts.items() if reason != "kept" and count}


def _read(path: Path) -> list[str]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return data.decode("utf-8").removesuffix("\n").split("\n")


def _write(path: Path, pairs: list[Pair]) -> None:
    for number, side in enumerate(("source", "target")):
        text = "".join(f"{pair[number]}\n" for pair in pairs)
        path.with_suffix(f".{side}").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
