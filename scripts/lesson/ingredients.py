"""Measure what each ingredient of a recipe for small data gains, on Multi30k.

    python scripts/lesson/ingredients.py MULTI30K OUT [--only NAME ...] [--seeds SEED ...]
        [--device cuda] [--final]

MULTI30K is a folder with Multi30k task 1, English and German: train, val and test_2016_flickr as
.en.gz and .de.gz. One ingredient at a time changes the recipe `base`, for equal updates; what
computes two passes an update has half as many. They are compared on val alone, which each reads
once, at its end.
`--final` trains the recipe FINAL and scores it on test, one model at a time and all seeds together.
`mtrain` does each step in a process of its own. What has a result in OUT/results is skipped, so
that the same command resumes. Prints the table so far.
"""

import argparse
import json
import re
import statistics
from collections.abc import Mapping, Sequence
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
UPDATES, FINAL_UPDATES = 6000, 12_000  # what regularises more pays late
METRICS = "bleu,bleu-tok-lc"
BASE: dict[str, dict[str, Any]] = {
    "tokenizer": {"type": "unigram", "vocab_size": 6000, "normalization": "nmt_nfkc"},
    "model": {"encoder_layers": 4, "decoder_layers": 4, "d_model": 128, "num_heads": 4,
              "ffn_dim": 512, "dropout": 0.2},
    "training": {"optimizer": "muon", "batch_tokens": 2400, "learning_rate": 4e-3,
                 "warmup_updates": 100, "keep_last": 1, "save_every": 500, "precision": "bf16"},
}  # fmt: skip
Changes = Mapping[str, Any]  # section.key: value
INGREDIENTS: dict[str, Changes] = {
    "base": {},
    "R-Drop": {"training.consistency": {"method": "r_drop"}},
    "R-Drop, dropout 0.3": {"training.consistency": {"method": "r_drop"}, "model.dropout": 0.3},
    "SimCut": {"training.consistency": {"method": "sim_cut"}},
    "subword sampling": {"training.subword_sampling": 0.2},
    "vocabulary of 2,000": {"tokenizer.vocab_size": 2000},
    "vocabulary of 4,000": {"tokenizer.vocab_size": 4000},
    "dropout 0.1": {"model.dropout": 0.1},
    "dropout 0.3": {"model.dropout": 0.3},
    "dropout of tokens": {"model.token_dropout": 0.1},
    "dropout on attention": {"model.attention_dropout": 0.1},
    "label smoothing 0.2": {"training.label_smoothing": 0.2},
    "weight decay": {"training.weight_decay": 0.1},
    # means of weights: of a linear schedule, which ends at zero, they are its last weights
    "1/sqrt": {"training.schedule": "inverse_sqrt"},
    "1/sqrt, moving average": {"training.schedule": "inverse_sqrt", "training.ema_decay": 0.998},
    "1/sqrt, mean of 5 checkpoints": {"training.schedule": "inverse_sqrt",
                                      "training.average_checkpoints": 5, "training.keep_last": 5},
    "rotary positions": {"model.positions": "rotary"},
    "deep and narrow": {"model.encoder_layers": 8, "model.d_model": 96, "model.ffn_dim": 384},
    "deep encoder": {"model.encoder_layers": 6, "model.decoder_layers": 2},
}  # fmt: skip
FINAL_NAME = "final"
FINAL: Changes = {}  # what paid on val
COLUMNS = ("ingredient", "seeds", "dev BLEU", "tokenised, lower-cased", "gain", "minutes")


class Lab:
    """The folder of all experiments."""

    def __init__(self, out: Path, multi30k: Path, device: str) -> None:
        self.out, self.multi30k, self.device = out, multi30k, device
        self.results = out / "results"
        self.results.mkdir(parents=True, exist_ok=True)

    def learn(self, name: str, seed: int) -> None:
        """Train a model and score it, unless it has a result."""
        path, settings = self._path(name, seed), self._settings(name)
        if read_result(path, settings) is not None:
            return
        stem, changes = path.stem, settings["changes"]
        passes = 2 if "training.consistency" in changes else 1
        run = self.out / "runs" / stem
        tree = recipe(changes, settings["updates"] // passes)
        tree |= {"run_dir": str(run), "seed": seed, "device": self.device,
                 **self._data(settings["split"])}  # fmt: skip
        write_config(self.out / f"{stem}.yaml", tree)
        before = processor_minutes()
        for verb in ("prepare", "train"):
            mtrain(verb, str(self.out / f"{stem}.yaml"))
        minutes = round(processor_minutes() - before, 2)
        write_result(path, {**origin(), "settings": settings, "name": name, "seed": seed,
                            "minutes": minutes, "dev": learning_curve(run),
                            "scores": self.score([run])})  # fmt: skip
        say(f"{stem}: {minutes:.1f} minutes")

    def score(self, runs: Sequence[Path]) -> dict[str, Any]:
        """Return the values and signatures of the runs' set, their probabilities averaged."""
        others = [word for run in runs[1:] for word in ("--with", str(run))]
        found = mtrain("score", str(runs[0]), *others, "--metrics", METRICS, "--json")
        scores = json.loads(found)["sets"][0]["scores"]
        return {score["name"]: {key: score[key] for key in ("value", "signature")}
                for score in scores}  # fmt: skip

    def together(self) -> None:
        """Score all seeds of the final recipe together, once each has a result."""
        path = self.results / "final-together.json"
        runs = [self.out / "runs" / self._path(FINAL_NAME, seed).stem for seed in SEEDS]
        if len(self._found(FINAL_NAME)) < len(SEEDS):
            return
        if not path.exists():
            if gone := [str(run) for run in runs if not run.exists()]:
                say(f"not scored together: {' and '.join(gone)}: no such run folder")
                return
            write_result(path, {**origin(), "scores": self.score(runs)})
        told = json.loads(path.read_text("utf-8"))["scores"]
        say(", ".join(f"{name} {found['value']:.2f}" for name, found in told.items()))

    def describe(self, names: Sequence[str]) -> str:
        """Return the table of what has a result."""
        found = {name: self._found(name) for name in names}
        base = [value(one, "BLEU") for one in found.get("base", ())]
        rows = []
        for name, each in found.items():
            if not each:
                continue
            bleu = [value(one, "BLEU") for one in each]
            rows.append((name, str(len(each)), spread(bleu),
                         spread([value(one, "BLEU-tok-lc") for one in each]),
                         "" if name == "base" else gain(bleu, base),
                         f"{statistics.mean(one['minutes'] for one in each):.0f}"))  # fmt: skip
        return table(COLUMNS, rows)

    def _found(self, name: str) -> list[dict[str, Any]]:
        found = (read_result(self._path(name, seed), self._settings(name)) for seed in SEEDS)
        return [result for result in found if result is not None]

    def _path(self, name: str, seed: int) -> Path:
        return self.results / f"{re.sub('[ /]', '-', name)}-{seed}.json"

    def _settings(self, name: str) -> dict[str, Any]:
        changes, updates, split = INGREDIENTS.get(name, {}), UPDATES, "val"
        if name == FINAL_NAME:
            changes, updates, split = FINAL, FINAL_UPDATES, "test_2016_flickr"
        return {"changes": dict(changes), "updates": updates, "split": split, "base": BASE,
                "device": self.device}  # fmt: skip

    def _data(self, test: str) -> dict[str, Any]:
        stems = {"train": "train", "valid": "val", "test": test}
        pairs: dict[str, dict[str, str]] = {
            split: {side: str(self.multi30k / f"{stem}.{lang}.gz")
                    for side, lang in (("source", "en"), ("target", "de"))}
            for split, stem in stems.items()
        }  # fmt: skip
        held_out = {"valid": [pairs["valid"]], "test": [{"name": test, **pairs["test"]}]}
        return {"data": {"source_lang": "en", "target_lang": "de", "train": [pairs["train"]],
                         **held_out}}  # fmt: skip


def recipe(changes: Changes, updates: int) -> dict[str, Any]:
    """Return the base recipe with some keys changed."""
    sections = {name: dict(section) for name, section in BASE.items()}
    for key, setting in changes.items():
        section, _, field = key.partition(".")
        sections[section][field] = setting
    sections["training"] |= {"max_updates": updates, "valid_every": updates}
    return sections


def gain(values: Sequence[float], base: Sequence[float]) -> str:
    """Return the difference of the means, and its standard error where both have several."""
    if not base:
        return ""
    told = f"{statistics.mean(values) - statistics.mean(base):+.1f}"
    if min(len(values), len(base)) > 1:
        error = sum(statistics.variance(each) / len(each) for each in (values, base)) ** 0.5
        told += f" ± {error:.1f}"
    return told


def value(result: Mapping[str, Any], metric: str) -> float:
    """Return the value of a metric."""
    return float(result["scores"][metric]["value"])


def main() -> None:
    """Run what has no result yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("multi30k", type=Path, metavar="MULTI30K")
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder")
    parser.add_argument("--only", nargs="+", choices=INGREDIENTS, default=list(INGREDIENTS))
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--final", action="store_true", help="train FINAL, score it on test")
    given = parser.parse_args()
    if given.final and not FINAL:
        parser.error("--final: FINAL names no ingredient yet")
    lab = Lab(given.out, given.multi30k, given.device)
    for name in [FINAL_NAME] if given.final else given.only:
        for seed in given.seeds:
            lab.learn(name, seed)
    if given.final:
        lab.together()
    print(lab.describe([FINAL_NAME] if given.final else list(INGREDIENTS)))


if __name__ == "__main__":
    main()
