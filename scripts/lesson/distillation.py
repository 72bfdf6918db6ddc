"""Measure what a small student gains from its teacher, on Multi30k.

    python scripts/lesson/distillation.py MULTI30K OUT [--ways WAY ...] [--seeds SEED ...]

MULTI30K is a folder with Multi30k task 1, English and German: train, val and test_2016_flickr as
.en.gz and .de.gz. A teacher is trained first. The same student is then trained on the corpus's own
translations (`plain`, which takes only the teacher's vocabulary), on the teacher's (`best`,
`interpolated`), on its distributions of each token (`words`), and on both (`best-words`). `mtrain`
does each step in a process of its own. What has a result in OUT/results is skipped, so that the
same command resumes. Prints the table so far.
"""

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heads import table
from origin import origin
from steps import (
    best_dev_bleu,
    learning_curve,
    mtrain,
    processor_minutes,
    read_result,
    score_run,
    spread,
    write_config,
    write_result,
)

from mtrain.console import say

SEEDS = (1, 2, 3)
TRAINING = {"optimizer": "muon", "batch_tokens": 2400, "learning_rate": 4e-3,
            "warmup_updates": 100, "keep_last": 1}  # fmt: skip
TEACHER: dict[str, Any] = {
    "tokenizer": {"type": "unigram", "vocab_size": 6000, "normalization": "nmt_nfkc"},
    "model": {"encoder_layers": 3, "decoder_layers": 3, "d_model": 256, "num_heads": 4,
              "ffn_dim": 1024, "dropout": 0.2},
    "training": {**TRAINING, "max_updates": 4300, "valid_every": 430},
}  # fmt: skip
# configs/multi30k-student-tiny.yaml, by updates in place of minutes
STUDENT: dict[str, Any] = {
    "model": {"encoder_layers": 6, "decoder_layers": 2, "d_model": 128, "num_heads": 4,
              "ffn_dim": 768, "dropout": 0.1},
    "training": {**TRAINING, "max_updates": 3000, "valid_every": 300},
}  # fmt: skip
WAYS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "best": {"targets": "best"},
    "interpolated": {"targets": "interpolated"},
    "words": {"targets": "original", "weight": 0.5},
    "best-words": {"targets": "best", "weight": 0.5},
}
COLUMNS = ("learns from", "seeds", "dev BLEU", "test BLEU", "in eight bits, of the teacher's",
           "minutes")  # fmt: skip


class Lab:
    """The folder of all experiments."""

    def __init__(self, out: Path, multi30k: Path) -> None:
        self.out, self.multi30k = out, multi30k
        self.results = out / "results"
        self.results.mkdir(parents=True, exist_ok=True)
        self.teacher = out / "teacher"
        self.vocabulary = self.teacher / "data" / "tokenizer" / "shared.model"

    def teach(self) -> dict[str, Any]:
        """Train the teacher; return its result."""
        return self._result("teacher", self.teacher, self._teacher(), None)

    def learn(self, way: str, seed: int) -> dict[str, Any]:
        """Train a student in one way; return its result."""
        name = f"{way}-{seed}"
        if WAYS[way] is not None:
            self.teach()
        elif not self.vocabulary.exists():
            mtrain("prepare", str(self._configure("teacher", self.teacher, self._teacher())))
        tree = {**STUDENT, **self._data(), "tokenizer": {"path": str(self.vocabulary)},
                "seed": seed, "data_dir": str(self.out / f"data-{way}")}  # fmt: skip
        if (given := WAYS[way]) is not None:
            tree["distillation"] = given
        return self._result(name, self.out / "runs" / name, tree, given)

    def _result(
        self, name: str, run: Path, tree: Mapping[str, Any], distillation: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return a result; what has none yet is trained first."""
        path, settings = self.results / f"{name}.json", dict(tree)
        if (found := read_result(path, settings)) is None:
            config = self._configure(name, run, tree)
            before = processor_minutes()
            report = None
            if distillation is None:
                mtrain("prepare", str(config))
                mtrain("train", str(config))
            else:
                report = json.loads(mtrain("distill", str(self.teacher), str(config), "--json"))
            minutes = round(processor_minutes() - before, 2)
            dev = learning_curve(run)
            found = {**origin(), "settings": settings, "minutes": minutes, "dev": dev,
                     **score_run(run), "report": report}  # fmt: skip
            write_result(path, found)
            say(f"{name}: dev BLEU {best_dev_bleu(found):.2f}, {minutes:.1f} minutes")
        return found

    def _configure(self, name: str, run: Path, tree: Mapping[str, Any]) -> Path:
        """Write the configuration of a run; return where."""
        config = self.out / f"{name}.yaml"
        write_config(config, {"run_dir": str(run), "device": "cpu", **tree})
        return config

    def _teacher(self) -> dict[str, Any]:
        return {**TEACHER, **self._data(), "seed": 1}

    def _data(self) -> dict[str, Any]:
        stems = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
        pairs: dict[str, dict[str, str]] = {
            split: {side: str(self.multi30k / f"{stem}.{lang}.gz")
                    for side, lang in (("source", "en"), ("target", "de"))}
            for split, stem in stems.items()
        }  # fmt: skip
        test = {"name": "test2016", **pairs["test"]}
        return {"data": {"source_lang": "en", "target_lang": "de", "train": [pairs["train"]],
                         "valid": [pairs["valid"]], "test": [test]}}  # fmt: skip

    def describe(self) -> str:
        """Return the table of what has a result."""
        rows = []
        for way in ("teacher", *WAYS):
            stem = way if way == "teacher" else f"{way}-[0-9]"
            paths = sorted(self.results.glob(f"{stem}.json"))
            each = [json.loads(path.read_text("utf-8")) for path in paths]
            if each:
                rows.append((way, str(len(each)), spread([best_dev_bleu(one) for one in each]),
                             spread([one["test"]["BLEU"] for one in each]), _of_int8(each),
                             f"{statistics.mean(one['minutes'] for one in each):.0f}"))  # fmt: skip
        return table(COLUMNS, rows)


def _of_int8(results: list[dict[str, Any]]) -> str:
    """Return BLEU, bytes and speed of the students in eight bits, as shares of the teacher's."""
    shares: dict[str, list[float]] = {}
    for result in results:
        if result["report"] is None:
            continue
        rows = {row["system"]: row for row in result["report"]["rows"]}
        measures = [_measures(rows[system]) for system in ("student int8", "teacher")]
        for name, value in measures[0].items():
            shares.setdefault(name, []).append(value / measures[1][name])
    return ", ".join(f"{statistics.mean(each):.2f} x {name}" for name, each in shares.items())


def _measures(row: dict[str, Any]) -> dict[str, float]:
    return {"BLEU": row["scores"]["BLEU"], "bytes": row["megabytes"], **row["speeds"]}


def main() -> None:
    """Run what has no result yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("multi30k", type=Path, metavar="MULTI30K")
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder")
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=["plain", "best"])
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS))
    given = parser.parse_args()
    lab = Lab(given.out, given.multi30k)
    for seed in given.seeds:
        for way in given.ways:
            lab.learn(way, seed)
    print(lab.describe())


if __name__ == "__main__":
    main()
