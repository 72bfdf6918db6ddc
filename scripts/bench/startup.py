"""The yardstick of waiting: from the start of a process to its first update or translation.

    python scripts/bench/startup.py CONFIG.yaml RUN [--set key=value ...] [--rounds 5] [--json FILE]

CONFIG.yaml needs prepared data, and is trained for one update into a folder that is removed; RUN is
a trained run, which translates one line.
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
    """Start a command of mtrain."""
    return subprocess.Popen(
        [sys.executable, "-m", "mtrain", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def seconds_to_help() -> float:
    """Return how long `mtrain --help` takes."""
    started = time.perf_counter()
    start("--help").communicate()
    return time.perf_counter() - started


def seconds_to_translation(run: Path) -> float:
    """Return how long it takes until a line has come back."""
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
    """Return how long it takes until the first update is in the log."""
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
    """Measure each wait a few times, in turn."""
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
    """Measure what the command line asks for."""
    parser = make_parser("Measure how long mtrain lets one wait.", "CONFIG.yaml", "RUN", rounds=5)
    run_yardstick(parser, bench)


if __name__ == "__main__":
    main()
