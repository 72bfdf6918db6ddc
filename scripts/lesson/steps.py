"""The verbs as steps of a measurement, and its results as JSON files."""

import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from mtrain.training.log import read_metrics


def mtrain(*arguments: str) -> str:
    """Run a verb; return what it prints on stdout."""
    command = [sys.executable, "-m", "mtrain", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def processor_minutes() -> float:
    """Return what the processes that this one has waited for took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) / 60


def learning_curve(run: Path) -> list[dict[str, float]]:
    """Return the validations of a run."""
    keys = ("update", "minutes", "loss", "bleu", "accuracy")
    return [{key: event[key] for key in keys if key in event}
            for event in read_metrics(run / "metrics.jsonl")
            if event["kind"] == "valid"]  # fmt: skip


def best_dev_bleu(result: dict[str, Any]) -> float:
    """Return the best BLEU on val of a result with its learning curve."""
    return float(max(event["bleu"] for event in result["dev"]))


def score_run(run: Path) -> dict[str, Any]:
    """Score the first test set of a run; return values and signatures by metric."""
    scores = json.loads(mtrain("score", str(run), "--json"))["sets"][0]["scores"]
    return {
        "test": {score["name"]: score["value"] for score in scores},
        "signatures": {score["name"]: score["signature"] for score in scores},
    }


def spread(values: Iterable[float]) -> str:
    """Return the mean, and the standard deviation where there are several."""
    found = list(values)
    deviation = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.1f}{deviation}"


def write_config(path: Path, tree: dict[str, Any]) -> None:
    """Write a configuration."""
    path.write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")


def read_result(path: Path, settings: Any) -> dict[str, Any] | None:
    """Return the result of some settings, or None; end the program if they were others."""
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if found["settings"] != json.loads(json.dumps(settings)):
        sys.exit(f"{path}: this result is of other settings: remove it and its run, or name "
                 "another OUT")  # fmt: skip
    return found


def write_result(path: Path, content: Any) -> None:
    """Write JSON by one rename, so that a result is whole or absent."""
    whole = path.with_suffix(".part")
    whole.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    whole.rename(path)
