"""Shared by the benchmarks: command line, description of machine and code, table, JSON."""

import json
import platform
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path

import torch

from mtrain.errors import UserError
from mtrain.text.lines import write_whole
from mtrain.text.tokenizer import available_cores

Figures = Mapping[str, str | int | float]
Report = Mapping[str, Figures]  # by measured part


def make_parser(description: str, *paths: str, rounds: int | None = None) -> ArgumentParser:
    """Return a parser for paths such as CONFIG.yaml, --set, and --rounds if a default is given."""
    parser = ArgumentParser(description=description)
    for metavar in paths:
        parser.add_argument(metavar.split(".")[0].lower(), type=Path, metavar=metavar)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds)
    return parser


def run_yardstick(parser: ArgumentParser, measure: Callable[[Namespace], Report]) -> None:
    """Read the command line, measure, print a table, and write JSON on request."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    options = parser.parse_args()
    try:
        with write_whole(options.json) if options.json else nullcontext() as file:
            report = {"machine": describe_machine(), **measure(options)}
            if file:
                asked = {"command": " ".join(sys.argv)}
                file.write(json.dumps(asked | report, indent=1).encode() + b"\n")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(as_table(report))


def describe_machine() -> Figures:
    """Return processor, GPU, threads, torch version, commit and date."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text("utf-8").split("\n") if cpu_info.is_file() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": current_commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def current_commit() -> str:
    """Return the commit of this checkout, with -dirty if files differ from it."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(
            describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def as_table(report: Report) -> str:
    """Return one line per figure."""

    def spell(figure: str | int | float) -> str:
        if isinstance(figure, float):
            return f"{figure:,.1f}" if figure >= 10 else f"{figure:.4f}"
        return str(figure)

    width = 2 + max(map(len, report))
    name_width = 2 + max(len(name) for figures in report.values() for name in figures)
    return "\n".join(
        f"{part:<{width}}{name:<{name_width}}{spell(figure)}"
        for part, figures in report.items()
        for name, figure in figures.items()
    )
