"""Benchmark start-up: seconds from process start to help, first translation and first update.

    python scripts/bench/startup.py CONFIG.yaml RUN [--set key=value ...] [--rounds 5] [--json FILE]

CONFIG.yaml needs prepared data; it trains for one update in a temporary folder. RUN is a trained
run that translates one line.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from yardstick import Report, make_parser, run_yardstick

from mtrain.config import load_config

LINE = b"A man is riding a bicycle.\n"


def start(*arguments: object) -> "subprocess.Popen[bytes]":
    """Start an mtrain command."""
    return subprocess.Popen(
        [sys.executable, "-m", "mtrain", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def seconds_to_help() -> float:
    """Return the seconds that `mtrain --help` takes."""
    started = time.perf_counter()
    start("--help").communicate()
    return time.perf_counter() - started


def seconds_to_translation(run: Path) -> float:
    """Return the seconds until one line is translated."""
    started = time.perf_counter()
    process = start("translate", run)
    assert process.stdin
    assert process.stdout
    process.stdin.write(LINE)
    process.stdin.flush()
    process.stdout.readline()
    seconds = time.perf_counter() - started
    process.communicate()
    return seconds


def seconds_to_update(options: argparse.Namespace) -> float:
    """Return the seconds until the first update is in the log."""
    config = load_config(options.config, options.overrides)
    changes = [*options.overrides, "training.max_updates=1", "training.log_every=1",
               f"data_dir={config.data_path}"]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="mtrain-bench-") as scratch:
        log = Path(scratch) / "run" / "metrics.jsonl"
        settings = [
            word for text in (*changes, f"run_dir={scratch}/run") for word in ("--set", text)
        ]
        started = time.perf_counter()
        process = start("train", options.config, *settings)
        while process.poll() is None and not (log.is_file() and log.stat().st_size):
            time.sleep(0.005)
        seconds = time.perf_counter() - started
        process.terminate()
        process.communicate()
        if not log.is_file():
            raise RuntimeError(f"mtrain train ended with {process.returncode} before an update")
    return seconds


def bench(options: argparse.Namespace) -> Report:
    """Measure each delay a few times, in alternation."""
    waits: dict[str, Callable[[], float]] = {
        "help": seconds_to_help,
        "first translation": lambda: seconds_to_translation(options.run),
        "first update": lambda: seconds_to_update(options),
    }
    seconds: dict[str, list[float]] = {name: [] for name in waits}
    for _ in range(options.rounds):
        for name, wait in waits.items():
            seconds[name].append(wait())
    return {
        name: {"seconds": statistics.median(measured), "longest": max(measured)}
        for name, measured in seconds.items()
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = make_parser("Measure start-up times of mtrain.", "CONFIG.yaml", "RUN", rounds=5)
    run_yardstick(parser, bench)


if __name__ == "__main__":
    main()
