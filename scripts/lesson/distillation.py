"""Measure what a small student gains from its teacher.

    python scripts/lesson/distillation.py TASK DATA OUT [--ways WAY ...] [--seeds SEED ...]

DATA holds multi30k/ and tatoeba/ as configs/README.md describes them. TASK is `multi30k` or
`tatoeba`, which translate English to German, or `bert`, which learns from the text of both. A
teacher is trained first. The same student is then trained without it (`plain`, which takes only the
teacher's vocabulary), on its translations (`best`, `interpolated`), on its distributions of each
token (`words`), and on both (`best-words`). A BERT's student is trained without it (`plain`) or as
a DistilBERT (`half`): from every second of the teacher's layers, with three losses. `mtrain` does
each step in a process of its own. What has a result in OUT/results is skipped, so that the same
command resumes. Prints the table so far.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heads import table
from origin import origin
from steps import (
    learning_curve,
    mtrain,
    processor_minutes,
    read_result,
    spread,
    write_config,
    write_result,
)

from mtrain.console import say

SEEDS = (1, 2, 3)
MUON = {"optimizer": "muon", "learning_rate": 4e-3, "warmup_updates": 100, "keep_last": 1}
TRANSLATION = {**MUON, "batch_tokens": 2400}
MASKED_LM = {**MUON, "objective": "masked_lm", "batch_tokens": 4096}
# configs/multi30k-student-tiny.yaml
TINY = {"encoder_layers": 6, "decoder_layers": 2, "d_model": 128, "num_heads": 4, "ffn_dim": 768,
        "dropout": 0.1}  # fmt: skip
WIDE = {"encoder_layers": 3, "decoder_layers": 3, "d_model": 256, "num_heads": 4, "ffn_dim": 1024}
BERT = {"type": "bert", "norm": "pre", "d_model": 256, "num_heads": 4, "ffn_dim": 1024}
TEACHER = "{teacher}"  # in a way: stands for the teacher's run
TRANSLATED: dict[str, dict[str, Any]] = {
    "plain": {"model": TINY},
    "best": {"model": TINY, "distillation": {"targets": "best"}},
    "interpolated": {"model": TINY, "distillation": {"targets": "interpolated"}},
    "words": {"model": TINY, "distillation": {"targets": "original", "weight": 0.5}},
    "best-words": {"model": TINY, "distillation": {"targets": "best", "weight": 0.5}},
}


def _multi30k(data: Path) -> dict[str, Any]:
    """Return the section `data` for captions."""
    stems = {"train": "train", "valid": "val", "test": "test_2016_flickr"}
    pairs: dict[str, dict[str, str]] = {
        split: {side: str(data / f"multi30k/{stem}.{lang}.gz")
                for side, lang in (("source", "en"), ("target", "de"))}
        for split, stem in stems.items()
    }  # fmt: skip
    return {"source_lang": "en", "target_lang": "de", "train": [pairs["train"]],
            "valid": [pairs["valid"]], "test": [{"name": "test2016", **pairs["test"]}]}  # fmt: skip


def _tatoeba(data: Path) -> dict[str, Any]:
    """Return the section `data` for everyday sentences; no source is in two sets."""
    sides = {"source": "en", "target": "de"}
    pair = {side: str(data / f"tatoeba/all.{lang}.gz") for side, lang in sides.items()}
    return {"source_lang": "en", "target_lang": "de", "train": [pair],
            "valid": {"from_train": 1000}, "test": {"from_train": 1000}}  # fmt: skip


def _text(data: Path) -> dict[str, Any]:
    """Return the section `data` of configs/bert-small.yaml."""
    names = {"train": ("multi30k/train", "tatoeba/all"), "valid": ("multi30k/val",),
             "test": ("multi30k/test_2016_flickr",)}  # fmt: skip
    return {split: [{"text": str(data / f"{stem}.{lang}.gz"), "lang": lang,
                     "name": f"{stem.replace('/', '-')}-{lang}"}
                    for stem in stems for lang in ("en", "de")]
            for split, stems in names.items()}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What is learnt, by whom. Settings are sections of a configuration."""

    data: Callable[[Path], dict[str, Any]]
    vocab_size: int
    teacher: Mapping[str, Any]
    student: Mapping[str, Any]  # what all ways share
    ways: Mapping[str, Mapping[str, Any]]
    metric: str  # which mtrain's report names
    dev_metric: str  # the same in a learning curve


TASKS = {
    "multi30k": Task(
        _multi30k, 6000,
        {"model": {**WIDE, "dropout": 0.2},
         "training": {**TRANSLATION, "max_updates": 4300, "valid_every": 430}},
        {"training": {**TRANSLATION, "max_updates": 3000, "valid_every": 300}},
        TRANSLATED, "BLEU", "bleu",
    ),
    "tatoeba": Task(
        _tatoeba, 8000,
        {"model": {**WIDE, "dropout": 0.1},
         "training": {**TRANSLATION, "max_updates": 4000, "valid_every": 800}},
        {"training": {**TRANSLATION, "max_updates": 2500, "valid_every": 500}},
        TRANSLATED, "BLEU", "bleu",
    ),
    "bert": Task(
        _text, 4000,  # a fifth of the teacher's weights are embeddings, as in BERT-base
        {"model": {**BERT, "encoder_layers": 6},
         "training": {**MASKED_LM, "max_updates": 4000, "valid_every": 500}},
        {"training": {**MASKED_LM, "max_updates": 3000, "valid_every": 500}},
        {"plain": {"model": {**BERT, "encoder_layers": 3}},
         "half": {"model": {"encoder_layers": 3,
                            "init_from": {"run": TEACHER, "layers": "every_second"}},
                  "distillation": {"weight": 0.714, "temperature": 2, "hidden_weight": 0.143}}},
        "accuracy", "accuracy",
    ),
}  # fmt: skip
COLUMNS = ("learns from", "seeds", "dev", "test", "student's, of the teacher's", "minutes")


class Lab:
    """The folder of all experiments of a task."""

    def __init__(self, out: Path, data: Path, task: Task) -> None:
        self.out, self.data, self.task = out, data, task
        self.results = out / "results"
        self.results.mkdir(parents=True, exist_ok=True)
        self.teacher = out / "teacher"
        self.vocabulary = self.teacher / "data" / "tokenizer" / "shared.model"

    def teach(self) -> dict[str, Any]:
        """Train the teacher; return its result."""
        return self._result("teacher", self.teacher, self._teacher())

    def learn(self, way: str, seed: int) -> dict[str, Any]:
        """Train a student in one way; return its result."""
        name, changes = f"{way}-{seed}", self.task.ways[way]
        if "distillation" in changes:
            self.teach()
        elif not self.vocabulary.exists():
            mtrain("prepare", str(self._configure("teacher", self.teacher, self._teacher())))
        changes = json.loads(json.dumps(changes).replace(TEACHER, str(self.teacher)))
        tree = {**self.task.student, **changes, **self._data(), "seed": seed,
                "data_dir": str(self.out / f"data-{way}")}  # fmt: skip
        if "init_from" not in tree["model"]:
            tree["tokenizer"] = {"path": str(self.vocabulary)}
        return self._result(name, self.out / "runs" / name, tree)

    def _result(self, name: str, run: Path, tree: Mapping[str, Any]) -> dict[str, Any]:
        """Return a result; what has none yet is trained first."""
        path, settings = self.results / f"{name}.json", dict(tree)
        if (found := read_result(path, settings)) is None:
            config = self._configure(name, run, tree)
            before = processor_minutes()
            report = None
            if "distillation" in tree:
                report = json.loads(mtrain("distill", str(self.teacher), str(config), "--json"))
            else:
                mtrain("prepare", str(config))
                mtrain("train", str(config))
            minutes = round(processor_minutes() - before, 2)
            found = {**origin(), "settings": settings, "minutes": minutes,
                     "dev": learning_curve(run), "report": report,
                     "sets": json.loads(mtrain("score", str(run), "--json"))["sets"]}  # fmt: skip
            write_result(path, found)
            say(f"{name}: dev {self._best(found):.2f}, {minutes:.1f} minutes")
        return found

    def _configure(self, name: str, run: Path, tree: Mapping[str, Any]) -> Path:
        """Write the configuration of a run; return where."""
        config = self.out / f"{name}.yaml"
        write_config(config, {"run_dir": str(run), "device": "cpu", **tree})
        return config

    def _teacher(self) -> dict[str, Any]:
        tokenizer = {"type": "unigram", "vocab_size": self.task.vocab_size,
                     "normalization": "nmt_nfkc"}  # fmt: skip
        return {"tokenizer": tokenizer, **self.task.teacher, **self._data(), "seed": 1}

    def _data(self) -> dict[str, Any]:
        return {"data": self.task.data(self.data)}

    def _best(self, result: Mapping[str, Any]) -> float:
        return float(max(event[self.task.dev_metric] for event in result["dev"]))

    def describe(self) -> str:
        """Return the table of what has a result."""
        rows = []
        for way in ("teacher", *self.task.ways):
            stem = way if way == "teacher" else f"{way}-[0-9]"
            paths = sorted(self.results.glob(f"{stem}.json"))
            each = [json.loads(path.read_text("utf-8")) for path in paths]
            if each:
                rows.append((way, str(len(each)), spread(map(self._best, each)),
                             self._test(each), _shares(each, self.task.metric),
                             f"{statistics.mean(one['minutes'] for one in each):.0f}"))  # fmt: skip
        return table(COLUMNS, rows)

    def _test(self, results: Sequence[Mapping[str, Any]]) -> str:
        """Return the metric on each test set."""
        found: dict[str, list[float]] = {}
        for result in results:
            for test in result["sets"]:
                scores = {score["name"]: score["value"] for score in test["scores"]}
                found.setdefault(test["name"], []).append(scores[self.task.metric])
        return ", ".join(f"{name} {spread(values)}" for name, values in found.items())


def _shares(results: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Return quality, bytes and speed on the first test set, as shares of the teacher's.

    They are those of the students in eight bits, where that was measured.
    """
    shares: dict[str, list[float]] = {}
    for result in results:
        if result["report"] is None:
            continue
        rows = {row["system"]: row for row in reversed(result["report"]["rows"])}
        student = rows.get("student int8", rows["student"])
        each = [{metric: row["scores"][metric], "bytes": row["megabytes"], **row["speeds"]}
                for row in (student, rows["teacher"])]  # fmt: skip
        for name, value in each[0].items():
            shares.setdefault(name, []).append(value / each[1][name])
    return ", ".join(f"{statistics.mean(each):.2f} x {name}" for name, each in shares.items())


def main() -> None:
    """Run what has no result yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS, metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder, one a task")
    parser.add_argument("--ways", nargs="*", metavar="WAY")
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS))
    given = parser.parse_args()
    task = TASKS[given.task]
    ways = [*task.ways][:2] if given.ways is None else given.ways
    if unknown := set(ways) - set(task.ways):
        parser.error(f"--ways {' '.join(unknown)}: {given.task} has {', '.join(task.ways)}")
    lab = Lab(given.out, given.data, task)
    for seed in given.seeds:
        for way in ways:
            lab.learn(way, seed)
    print(lab.describe())


if __name__ == "__main__":
    main()
