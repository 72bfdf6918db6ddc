"""Benchmark shards: a translation and a preparation by one process, by shards and on Ray.

    python scripts/bench/shards.py CONFIG.yaml RUN INPUT [--shards 8] [--buffer-lines 100]
        [--set key=value ...] [--rounds 3] [--json FILE]

CONFIG.yaml is prepared and INPUT translated by RUN, each into a temporary folder: by one process
with one thread, by one with a thread a core, by shards of one thread each, one a core at a time,
and by `--ray local`. The outputs are compared. Ray is measured with eight times the shards as well:
the difference is what a shard costs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from yardstick import Report, make_parser, run_yardstick

from mtrain.text.lines import file_digests
from mtrain.text.tokenizer import available_cores

MORE = 8  # times the shards, to see what a shard costs


def mtrain(threads: int, *arguments: object) -> None:
    """Run a command with so many threads."""
    command = [sys.executable, "-m", "mtrain", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


def in_shards(count: int, *arguments: object) -> None:
    """Run all shards of a command, one a core at a time."""
    with ThreadPoolExecutor(available_cores()) as pool:
        each = (f"{number}/{count}" for number in range(1, count + 1))
        list(pool.map(lambda shard: mtrain(1, *arguments, "--shard", shard), each))


def translations(options: argparse.Namespace, folder: Path) -> dict[str, Callable[[], None]]:
    """Return ways to translate."""
    settings = [f"--set={text}" for text in options.overrides]
    cut = f"--set=decoding.buffer_lines={options.buffer_lines}"
    output = folder / "out"
    command = ("translate", options.run, options.input, "--output", output, cut, *settings)

    def by_shards() -> None:
        in_shards(options.shards, *command)
        mtrain(1, "merge", output)

    return _ways(command, by_shards, options.shards)


def preparations(options: argparse.Namespace, folder: Path) -> dict[str, Callable[[], None]]:
    """Return ways to prepare."""
    settings = [f"--set={text}" for text in (*options.overrides, f"data_dir={folder}/data",
                                             f"run_dir={folder}/run")]  # fmt: skip

    def by_shards() -> None:
        for _ in range(2):
            in_shards(options.shards, "prepare", options.config, *settings)
            mtrain(1, "merge", options.config, *settings)

    return _ways(("prepare", options.config, *settings), by_shards, options.shards)


def _ways(
    command: Sequence[object], by_shards: Callable[[], None], count: int
) -> dict[str, Callable[[], None]]:
    on_ray = (*command, "--ray", "local", "--shards")
    return {
        "one process, one thread": lambda: mtrain(1, *command),
        "one process, all cores": lambda: mtrain(available_cores(), *command),
        f"{count} shards": by_shards,
        f"{count} shards on Ray": lambda: mtrain(1, *on_ray, count),
        f"{MORE * count} shards on Ray": lambda: mtrain(1, *on_ray, MORE * count),
    }


def measure(work: Callable[[], None]) -> float:
    """Return the seconds that work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def bench(options: argparse.Namespace) -> Report:
    """Measure each way a few times, in alternation, and compare what they write."""
    figures: dict[str, list[float]] = {}
    outputs: dict[tuple[str, str], dict[str, str]] = {}
    for _ in range(options.rounds):
        for verb, ways in (("translate", translations), ("prepare", preparations)):
            for place in range(len(ways(options, Path()))):
                with tempfile.TemporaryDirectory(prefix="mtrain-bench-") as scratch:
                    name, work = list(ways(options, Path(scratch)).items())[place]
                    figures.setdefault(f"{verb}: {name}", []).append(measure(work))
                    outputs[verb, name] = _results(Path(scratch))
    for (verb, name), found in outputs.items():
        if found != outputs[verb, "one process, one thread"] and "all cores" not in name:
            raise RuntimeError(f"{verb}: {name} wrote something else than one process")
    return {
        name: {
            "seconds": statistics.median(measured),
            "shortest": min(measured),
            "longest": max(measured),
        }
        for name, measured in figures.items()
    }


def _results(folder: Path) -> dict[str, str]:
    """Return the digests of what is to be the same: no shards, no times."""
    digests = file_digests(folder)
    return {path: digest for path, digest in digests.items()
            if "shard" not in path and not path.endswith((".lock", "manifest.json"))}  # fmt: skip


def main() -> None:
    """Run the benchmark from the command line."""
    names = "CONFIG.yaml", "RUN", "INPUT"
    parser = make_parser("Measure what shards and Ray cost and save.", *names, rounds=3)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--buffer-lines", type=int, default=100, help="lines of a block (100)")
    run_yardstick(parser, bench)


if __name__ == "__main__":
    main()
