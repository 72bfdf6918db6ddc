"""Check an entry of the record: training minutes to a dev BLEU, three seeds.

    python scripts/record/entry.py NAME RUN RUN RUN [--bleu 36]

Checks the runs against the rules of README.md, prints the result, and copies the logs to
logs/NAME.seed1.jsonl and so on beside this file. Writes nothing if a run breaks a rule.
"""

import argparse
import hashlib
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrain.config import Config
from mtrain.config.corpora import PairFiles
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.errors import UserError
from mtrain.text.lines import file_digest, open_bytes, write_whole
from mtrain.training.log import read_metrics

NUM_RUNS = 3
TEXTS = {  # SHA-256 of Multi30k's task 1, English and German, decompressed
    "train": (
        "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
        "67aa53ff412b6af1f47c604a623e112e2c28c61519aa7cf8a5348af21722b67a",
    ),
    "valid": (
        "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
        "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    ),
}


@dataclass(frozen=True)
class Entry:
    """The settings and results of one run."""

    run: RunFolder
    seed: int
    settings: dict[str, Any]  # must be equal in all runs of an entry
    minutes: float | None  # training and validation until the BLEU is reached; None if never
    best_bleu: float


def read_entry(path: Path, bleu: float) -> Entry:
    """Read a run. Raises `UserError` if it breaks a rule by itself."""
    run = RunFolder.open(path)
    config = run.config()
    _check_texts(path, config)
    if config.tokenizer.path is not None:
        raise UserError(f"{path}: its tokenizer was given, and may have learnt from other text")
    events = read_metrics(run.metrics_path)
    # checkpoints are averaged after the measured minutes
    valid = [event for event in events if event["kind"] == "valid" and "averaged" not in event]
    if not valid:
        raise UserError(f"{path}: it was never validated")
    own = {"seed", "run_dir", "data_dir"}
    return Entry(
        run,
        config.seed,
        config.model_dump(mode="json", exclude=own),
        next((event["minutes"] for event in valid if event["bleu"] >= bleu), None),
        max(event["bleu"] for event in valid),
    )


def _check_texts(path: Path, config: Config) -> None:
    if (config.data.source_lang, config.data.target_lang) != ("en", "de"):
        raise UserError(f"{path}: does not translate from en to de")
    for name, digests in TEXTS.items():
        found = [
            (text_digest(corpus.source), text_digest(corpus.target))
            if isinstance(corpus, PairFiles) and not getattr(corpus, "alignments", None)
            else None
            for corpus in getattr(config.data, name)
        ]
        if found != [digests]:
            raise UserError(f"{path}: data.{name} is not Multi30k's alone, as it was published")
    manifest = DataFolder(config.data_path).manifest()
    if any(file_digest(Path(file["path"])) != file["sha256"] for file in manifest["inputs"]):
        raise UserError(f"{path}: {config.data_path} was prepared from other text than lies there")


def text_digest(path: Path) -> str:
    """Return the SHA-256 of a file's decompressed text."""
    with open_bytes(path) as file:
        return hashlib.sha256(file.read()).hexdigest()


def check_together(entries: Sequence[Entry], bleu: float) -> list[float]:
    """Return the minutes of each run; raise `UserError` if the runs are no valid entry."""
    if len(entries) != NUM_RUNS or len({entry.seed for entry in entries}) != NUM_RUNS:
        raise UserError(f"an entry is {NUM_RUNS} runs of {NUM_RUNS} seeds")
    for entry in entries:
        if entry.settings != entries[0].settings:
            raise UserError(f"{entry.run.path}: its settings are not those of the first run")
        if entry.minutes is None:
            raise UserError(f"{entry.run.path}: dev BLEU {entry.best_bleu:.2f} at best, not {bleu}")
    return [entry.minutes for entry in entries if entry.minutes is not None]


def main() -> None:
    """Check the runs from the command line."""
    parser = argparse.ArgumentParser(description="Check three runs and enter them into the record.")
    parser.add_argument("name", help="name for the logs of the entry")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--bleu", type=float, default=36.0, help="dev BLEU to reach (36)")
    parser.add_argument("--logs", type=Path, default=Path(__file__).with_name("logs"))
    options = parser.parse_args()
    try:
        entries = [read_entry(path, options.bleu) for path in options.runs]
        minutes = check_together(entries, options.bleu)
        options.logs.mkdir(exist_ok=True)
        if any(options.logs.glob(f"{options.name}.seed*")):
            raise UserError(f"{options.logs}: has logs of the name {options.name}", "name it anew")
        for entry in entries:
            with write_whole(options.logs / f"{options.name}.seed{entry.seed}.jsonl") as file:
                file.write(entry.run.metrics_path.read_bytes())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    told = " ".join(f"{minute:.2f}" for minute in minutes)
    best = " ".join(f"{entry.best_bleu:.2f}" for entry in entries)
    print(f"minutes to dev BLEU {options.bleu:g}: {told}, median {statistics.median(minutes):.2f}")
    print(f"best dev BLEU: {best}")


if __name__ == "__main__":
    main()
