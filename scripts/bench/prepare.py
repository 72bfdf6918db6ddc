"""Benchmark `mtrain prepare` against the bare speed of SentencePiece.

    python scripts/bench/prepare.py CONFIG.yaml [--set key=value ...] [--rounds 3] [--json FILE]

Prepares the data once, which trains the tokenizer; then repeatedly with that tokenizer, alternating
with a loop that only reads the same files and encodes them on as many threads. All output goes to a
temporary folder.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from yardstick import Report, make_parser, run_yardstick

from mtrain.config import Config, load_config
from mtrain.console import say
from mtrain.data.folders import DataFolder
from mtrain.text.corpora import read_pairs
from mtrain.text.lines import clean_lines
from mtrain.text.tokenizer import TokenizerPair, available_cores

BLOCK = 20_000  # pairs per encoding call of the bare loop
MEGABYTE = 1e6


def prepare(options: argparse.Namespace, *settings: str) -> float:
    """Run `mtrain prepare` with some settings; return its seconds, start-up included."""
    overrides = [word for text in (*options.overrides, *settings) for word in ("--set", text)]
    command = [sys.executable, "-m", "mtrain", "prepare", str(options.config), *overrides]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def encode_everything(config: Config, tokenizers: TokenizerPair) -> tuple[float, int, int]:
    """Read and encode the training set; return seconds, pairs and bytes."""
    started, num_pairs, num_bytes = time.perf_counter(), 0, 0
    pairs = itertools.chain.from_iterable(
        read_pairs(config.pairs_of(corpus), config.data.languages_of(corpus))
        for corpus in config.data.train
    )
    while block := list(itertools.islice(pairs, BLOCK)):
        num_pairs += len(block)
        num_bytes += sum(len(source) + len(target) + 2 for source, target in block)
        for side, texts in zip(
            (tokenizers.source, tokenizers.target), zip(*block, strict=True), strict=True
        ):
            side.encode(clean_lines(texts)[0], available_cores())
    return time.perf_counter() - started, num_pairs, num_bytes


def tokenizer_setting(folder: Path) -> str:
    """Return the --set value that uses the tokenizers of a folder."""
    if (folder / "shared.model").is_file():
        return f"tokenizer.path={folder / 'shared.model'}"
    paths = {side: str(folder / f"{side}.model") for side in ("source", "target")}
    return f"tokenizer.path={json.dumps(paths)}"


def bench(options: argparse.Namespace) -> Report:
    """Measure `prepare` and bare encoding in alternation."""
    config = load_config(options.config, options.overrides)
    with tempfile.TemporaryDirectory(prefix="mtrain-bench-") as scratch:
        first = Path(scratch) / "first"
        say("preparing once, the tokenizer's training included")
        whole = prepare(options, f"data_dir={first}")
        tokenizer = tokenizer_setting(first / "tokenizer")
        tokenizers = DataFolder(first).tokenizers()
        ours, bare = [], []
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}")
            ours.append(prepare(options, f"data_dir={scratch}/{number}", tokenizer))
            seconds, num_pairs, num_bytes = encode_everything(config, tokenizers)
            bare.append(seconds)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (
        1024 if os.uname().sysname == "Linux" else 1
    )
    median = statistics.median(ours)
    return {
        "prepare": {
            "pairs": num_pairs,
            "seconds_with_tokenizer_training": whole,
            "seconds": median,
            "pairs_per_second": num_pairs / median,
            "megabytes_per_second": num_bytes / MEGABYTE / median,
            "peak_memory_mb": peak / MEGABYTE,
        },
        "bare encoding": {
            "seconds": statistics.median(bare),
            "pairs_per_second": num_pairs / statistics.median(bare),
            "share_reached_by_prepare": statistics.median(
                alone / both for alone, both in zip(bare, ours, strict=True)
            ),
        },
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = make_parser("Measure the speed of mtrain prepare.", "CONFIG.yaml", rounds=3)
    run_yardstick(parser, bench)


if __name__ == "__main__":
    main()
