"""Run everything that needs a GPU: its tests, speeds of training and search, time to a score.

    python scripts/bench/gpu.py MULTI30K OUT [--stages tests,train,translate,record,long_texts]

MULTI30K is a folder with the files that `configs/multi30k-en-de.yaml` reads. OUT receives the
JSON of every benchmark and the output of every program; a table of all is printed last.
"""

import argparse
import gzip
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from mtrain.console import warn

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "scripts" / "bench"
CONFIG = ROOT / "configs" / "multi30k-en-de.yaml"
RECORD = ROOT / "configs" / "multi30k-gpu.yaml"
SEEDS = (1, 2, 3)
SIZES = {  # layers of each stack, d_model, ffn_dim, num_heads
    "small": (3, 256, 1024, 4),
    "base": (6, 512, 2048, 8),
    "big": (6, 1024, 4096, 16),
}
TRANSLATES = "base"  # size of the translating model
SECONDS = 10  # per training measurement
LITTLE = 400  # updates of the translating model
LINES = 5000  # that it translates
LONG_SIZES = ("small", "base")  # of encoders on long texts
LONG = (1024, 2048, 4096, 8192, 16384)  # tokens


def sets(**keys: object) -> list[str]:
    """Return --set options; a double underscore stands for a dot."""
    options = (f"{key.replace('__', '.')}={value}" for key, value in keys.items())
    return [word for option in options for word in ("--set", option)]


def size_options(size: str) -> list[str]:
    """Return the options of a size; all share one data folder and its vocabulary."""
    layers, d_model, ffn_dim, num_heads = SIZES[size]
    return sets(
        data_dir="data-of-sizes", tokenizer__vocab_size=32000, tokenizer__type="bpe",
        model__encoder_layers=layers, model__decoder_layers=layers, model__d_model=d_model,
        model__ffn_dim=ffn_dim, model__num_heads=num_heads, model__dropout=0.1,
        training__batch_tokens=32768,
    )  # fmt: skip


class Session:
    """Run programs in a folder, one after another, and keep their output."""

    def __init__(self, work: Path, out: Path) -> None:
        self._work = work
        self._out = out
        self.lines: list[str] = []
        self.has_failed = False

    def run(self, name: str, *command: object) -> bool:
        """Run a Python program; keep its output as NAME.log."""
        started = time.monotonic()
        path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        with (self._out / f"{name}.log").open("wb") as log:
            code = subprocess.call(
                [sys.executable, *map(str, command)], cwd=self._work, stdout=log, stderr=log,
                env={**os.environ, "PYTHONPATH": path},
            )  # fmt: skip
        seconds = time.monotonic() - started
        self.lines.append(f"{name:<24} {'ok' if code == 0 else 'FAILED':<7} {seconds:6.1f} s")
        print(self.lines[-1], flush=True)
        self.has_failed |= code != 0
        return code == 0

    def mtrain(self, name: str, *arguments: object) -> None:
        """Run an mtrain command and add the last lines of its output to the table."""
        self.run(name, "-m", "mtrain", *arguments)
        self.tell(name)

    def measure(self, name: str, program: str, *arguments: object) -> None:
        """Run a benchmark and add its figures to the table."""
        path = self._out / f"{name}.json"
        if not self.run(name, BENCH / program, *arguments, "--json", path):
            self.tell(name)
            return
        for part, figures in json.loads(path.read_text("utf-8")).items():
            if part not in ("command", "machine"):
                told = (f"{key} {value if isinstance(value, str) else format(value, '.4g')}"
                        for key, value in figures.items())  # fmt: skip
                self.lines.append(f"    {part}: {', '.join(told)}")

    def tell(self, name: str, count: int = 3) -> None:
        """Add the last lines of a program's output to the table."""
        text = (self._out / f"{name}.log").read_text("utf-8", "replace")
        self.lines += [f"    {line}" for line in text.split("\n")[-count - 1 :] if line]

    def unpack(self, name: str, count: int) -> Path:
        """Decompress the first lines of a data file."""
        with gzip.open(self._work / "data" / "multi30k" / f"{name}.gz") as file:
            path = self._work / name
            path.write_bytes(b"".join(itertools.islice(file, count)))
        return path


def prepare_sizes(session: Session) -> None:
    """Prepare the data for all sizes, unless done."""
    session.mtrain("prepare-sizes", "prepare", CONFIG, *size_options(TRANSLATES))


def run_tests(session: Session) -> None:
    """Run the tests that need a GPU."""
    session.run("tests", "-m", "pytest", "-q", ROOT / "tests" / "gpu", "-p", "no:cacheprovider")
    session.tell("tests")


def run_train(session: Session) -> None:
    """Measure training of all sizes, with and without compilation."""
    prepare_sizes(session)
    for size in SIZES:
        for is_compiled in (True, False):
            options = (*size_options(size), *sets(training__compile_layers=is_compiled))
            name = f"train-{size}{'' if is_compiled else '-uncompiled'}"
            session.measure(name, "train.py", CONFIG, *options, "--seconds", SECONDS)


def run_translate(session: Session) -> None:
    """Measure search with a briefly trained model."""
    prepare_sizes(session)
    updates = sets(run_dir="little", training__max_updates=LITTLE, training__valid_every=LITTLE)
    session.mtrain("train-little", "train", CONFIG, *size_options(TRANSLATES), *updates)
    text = session.unpack("train.en", LINES)
    for batch_tokens in (12_288, 65_536):
        options = ("--beams", "4,1", "--rounds", 1, *sets(decoding__batch_tokens=batch_tokens))
        session.measure(f"translate-{batch_tokens}", "translate.py", "little", text, *options)


def run_record(session: Session) -> None:
    """Time the preset with three seeds, from the start of a process to the scored test set."""
    session.mtrain("prepare-record", "prepare", RECORD, *sets(data_dir="data-of-record"))
    for seed in SEEDS:
        started = time.monotonic()
        run = f"record-{seed}"
        options = sets(data_dir="data-of-record", run_dir=run, seed=seed)
        session.mtrain(f"{run}-train", "train", RECORD, *options)
        session.mtrain(f"{run}-score", "score", run)
        session.lines.append(f"    seed {seed}: {time.monotonic() - started:.1f} s in all")


def run_long_texts(session: Session) -> None:
    """Measure encoders on long texts: full beside block-sparse attention."""
    device = ("--device", "cuda", "--bf16") if torch.cuda.is_available() else ()
    options = (*device, "--rounds", 5, "--sizes", *LONG_SIZES, "--lengths", *LONG)
    session.run("long-texts", BENCH / "long_texts.py", "long-texts", *options)
    session.tell("long-texts", 2 * len(LONG) + 4)


STAGES: dict[str, Callable[[Session], None]] = {
    "tests": run_tests,
    "train": run_train,
    "translate": run_translate,
    "record": run_record,
    "long_texts": run_long_texts,
}


def main() -> None:
    """Run the stages that the command line names; exit with 1 if one failed."""
    parser = argparse.ArgumentParser(description="Run all measurements that need a GPU.")
    parser.add_argument("multi30k", type=Path, metavar="MULTI30K")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--stages", default=",".join(STAGES), help="comma-separated")
    options = parser.parse_args()
    stages = options.stages.split(",")
    if unknown := [stage for stage in stages if stage not in STAGES]:
        parser.error(f"there is no stage {unknown[0]}: there are {', '.join(STAGES)}")
    if not torch.cuda.is_available():
        warn("torch sees no GPU: this measures the CPU, for hours")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "data").mkdir()
        (work / "data" / "multi30k").symlink_to(options.multi30k.resolve())
        session = Session(work, options.out.resolve())
        for stage in stages:
            STAGES[stage](session)
    print("\n".join(["", *session.lines]))
    sys.exit(session.has_failed)


if __name__ == "__main__":
    main()
