"""Measure what pre-training on text gains a translator, by the number of pairs it learns from.

    python scripts/lesson/transfer.py MULTI30K OUT --text EN DE [--text EN DE ...] [--pairs N ...]
        [--ways WAY ...] [--seeds SEED ...]

MULTI30K is a folder with Multi30k task 1, English and German: train, val and test_2016_flickr as
.en.gz and .de.gz. The BERT learns from both sides of the --text files and of train, without the
sentences of val and test. Each way is trained with three seeds in its settings of SETTINGS, which
`--tune` found on val: one factor after another moves to its neighbours for as long as dev BLEU
rises. `mtrain` does each step in a process of its own. What has a result in OUT/results is skipped,
so that the same command resumes; second_half.py writes the page.
"""

import argparse
import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from origin import origin
from steps import (
    best_dev_bleu,
    learning_curve,
    mtrain,
    processor_minutes,
    score_run,
    write_config,
    write_result,
)

from mtrain.console import say
from mtrain.text.lines import read_lines

UPDATES = {2_000: 1_200, 5_000: 2_400, 29_000: 7_200}  # by pairs
SEEDS = (1, 2, 3)
TEST = "test2016"
SHAPE = {"encoder_layers": 3, "d_model": 256, "num_heads": 4, "ffn_dim": 1024}
BERT: dict[str, Any] = {
    "model": {**SHAPE, "type": "bert", "norm": "pre"},
    "tokenizer": {"type": "unigram", "vocab_size": 8000, "normalization": "nmt_nfkc"},
    "training": {"objective": "masked_lm", "optimizer": "muon", "batch_tokens": 4096,
                 "max_updates": 8_000, "learning_rate": 4e-3, "warmup_updates": 100,
                 "valid_every": 500, "keep_last": 1},
}  # fmt: skip
TRANSLATION: dict[str, Any] = {"batch_tokens": 1200, "warmup_updates": 300, "keep_last": 1}
GRIDS: dict[str, tuple[Any, ...]] = {
    "tokenizer.vocab_size": (1000, 2000, 4000, 8000),
    "model.dropout": (0.1, 0.2, 0.3, 0.4),
    "model.layers": (1, 2, 3, 4),
    "training.learning_rate": (1e-3, 2e-3, 4e-3),
}
Changes = Mapping[str, Any]  # section.key: value; model.layers stands for both sides


@dataclass(frozen=True)
class Way:
    """A way to train a translator."""

    title: str
    parts: tuple[str, ...]  # those that start from the BERT
    reads: bool = False  # the BERT's states as features


BASELINE = "scratch"
WAYS = {
    BASELINE: Way("no pre-training", ()),
    "features": Way("BERT's states as features", (), reads=True),
    "encoder": Way("encoder from BERT", ("encoder", "embeddings")),
    "both": Way("encoder and decoder from BERT", ("encoder", "decoder", "embeddings")),
}


def _whole(vocab_size: int, layers: int, dropout: float) -> Changes:
    return {"tokenizer.vocab_size": vocab_size, "model.layers": layers, "model.dropout": dropout,
            "training.learning_rate": 2e-3}  # fmt: skip


COPIED: Changes = {"model.dropout": 0.3, "training.learning_rate": 2e-3}
# Best on val as far as it was searched: from nothing at 2,000 and 5,000 pairs, both sides at 2,000.
SETTINGS: dict[int, dict[str, Changes]] = {
    2_000: {BASELINE: _whole(4000, 2, 0.3), "features": _whole(4000, 2, 0.2),
            "encoder": COPIED, "both": COPIED},
    5_000: {BASELINE: _whole(4000, 3, 0.3), "features": _whole(4000, 3, 0.3),
            "encoder": COPIED, "both": COPIED},
    29_000: {BASELINE: _whole(8000, 3, 0.2), "features": _whole(8000, 3, 0.2),
             "encoder": COPIED, "both": COPIED},
}  # fmt: skip


class Lab:
    """The folder of all experiments."""

    def __init__(self, out: Path, multi30k: Path, texts: list[tuple[Path, Path]]) -> None:
        self.out, self.multi30k, self.texts = out, multi30k, texts
        self.results = out / "results"
        self.results.mkdir(parents=True, exist_ok=True)

    @property
    def bert(self) -> Path:
        """The run of the BERT."""
        return self.out / "bert"

    def pretrain(self) -> None:
        """Train the BERT."""
        result = self.results / "bert.json"
        if result.exists():
            return
        sides = [[*self.texts, self._files("train")], [self._files("val")], [self._files(TEST)]]
        train, valid, test = (
            [{"text": str(text), "lang": lang, "name": f"{number}-{lang}"}
             for number, pair in enumerate(pairs) for lang, text in zip(("en", "de"), pair,
             strict=True)]
            for pairs in sides
        )  # fmt: skip
        tree = {"run_dir": str(self.bert), "device": "cpu", **BERT,
                "data": {"train": train, "valid": valid, "test": test}}  # fmt: skip
        minutes = self._train("bert", tree)
        scores = json.loads(mtrain("score", str(self.bert), "--json"))
        write_result(
            result,
            {**origin(), "minutes": minutes, "dev": learning_curve(self.bert), "test": scores},
        )

    def tune(self, way_name: str, pairs: int) -> Changes:
        """Return the settings of a way that are best on val, one factor after another."""
        best = dict(SETTINGS[pairs][way_name])
        for key in best:
            for step in (-1, 1):
                while (tried := _neighbour(best, key, step)) and self.quality(
                    way_name, pairs, tried
                ) > self.quality(way_name, pairs, best):
                    best = tried
        return best

    def quality(self, way_name: str, pairs: int, changes: Changes) -> float:
        """Return the best dev BLEU of one training with the first seed."""
        return best_dev_bleu(self.learn(way_name, pairs, changes))

    def learn(self, way_name: str, pairs: int, changes: Changes, seed: int = 1) -> dict[str, Any]:
        """Train and score one model, unless it has a result; return that."""
        told = "-".join(f"{key.partition('.')[2]}={changes[key]}" for key in sorted(changes))
        name = f"{way_name}-{pairs}-{told}-{seed}"
        result = self.results / f"{name}.json"
        if not result.exists():
            minutes = self._train(name, self._config(name, way_name, pairs, changes, seed))
            run = self.out / "runs" / name
            curve = learning_curve(run)
            write_result(result, {
                **origin(), "way": way_name, "pairs": pairs, "seed": seed,
                "changes": dict(changes), "minutes": minutes, "dev": curve, **score_run(run),
            })  # fmt: skip
            for folder in ("checkpoints", "data"):  # large, and not needed any more
                shutil.rmtree(run / folder)
            say(f"{name}: dev BLEU {best_dev_bleu({'dev': curve}):.2f}, {minutes:.1f} minutes")
        found: dict[str, Any] = json.loads(result.read_text("utf-8"))
        return found

    def _train(self, name: str, tree: dict[str, Any]) -> float:
        """Prepare and train; return the minutes of processor time that this call took."""
        path = self.out / f"{name}.yaml"
        write_config(path, tree)
        before = processor_minutes()
        mtrain("prepare", str(path))
        mtrain("train", str(path))
        return round(processor_minutes() - before, 2)

    def _config(
        self, name: str, way_name: str, pairs: int, changes: Changes, seed: int
    ) -> dict[str, Any]:
        way, updates = WAYS[way_name], UPDATES[pairs]
        (valid, test), train = (self._files(split) for split in ("val", TEST)), self._subset(pairs)
        sections: dict[str, dict[str, Any]] = {
            "tokenizer": {"type": "unigram", "normalization": "nmt_nfkc"},
            "model": {**SHAPE, "decoder_layers": 3},
            "training": {**TRANSLATION, "max_updates": updates, "valid_every": updates // 8},
        }
        if way.reads:
            sections["model"]["features"] = {"run": str(self.bert)}
        if way.parts:
            base = {"run": str(self.bert), "parts": list(way.parts)}
            sections["model"] = {"type": "transformer", "init_from": base}
            del sections["tokenizer"]
        for key, value in changes.items():
            section, _, field = key.partition(".")
            for one in ("encoder_layers", "decoder_layers") if field == "layers" else (field,):
                sections[section][one] = value
        texts = {"train": train, "valid": valid, "test": test}
        pair = {split: {"source": str(files[0]), "target": str(files[1])}
                for split, files in texts.items()}  # fmt: skip
        return {
            "run_dir": str(self.out / "runs" / name), "seed": seed, "device": "cpu", **sections,
            "data": {"source_lang": "en", "target_lang": "de", "train": [pair["train"]],
                     "valid": [pair["valid"]], "test": [{"name": TEST, **pair["test"]}]},
        }  # fmt: skip

    def _files(self, split: str) -> tuple[Path, Path]:
        stem = "test_2016_flickr" if split == TEST else split
        english, german = (self.multi30k / f"{stem}.{lang}.gz" for lang in ("en", "de"))
        return english, german

    def _subset(self, pairs: int) -> tuple[Path, Path]:
        """Write so many pairs of train, in a random order."""
        folder = self.out / "text"
        files = folder / f"{pairs}.en", folder / f"{pairs}.de"
        if not all(file.exists() for file in files):
            folder.mkdir(exist_ok=True)
            sides = [list(read_lines(path)) for path in self._files("train")]
            order = random.Random(1).sample(range(len(sides[0])), pairs)
            for file, lines in zip(files, sides, strict=True):
                file.write_bytes(b"".join(lines[row] + b"\n" for row in order))
        return files


def _neighbour(changes: Changes, key: str, step: int) -> dict[str, Any] | None:
    """Return the changes with the next value of a factor, or None at the end of its grid."""
    grid = GRIDS[key]
    place = grid.index(changes[key]) + step
    return {**changes, key: grid[place]} if 0 <= place < len(grid) else None


def main() -> None:
    """Run what has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("multi30k", type=Path, metavar="MULTI30K")
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder")
    parser.add_argument("--text", nargs=2, type=Path, action="append", default=[],
                        metavar=("EN", "DE"), help="text for the BERT; repeatable")  # fmt: skip
    parser.add_argument("--pairs", type=int, nargs="+", choices=UPDATES, default=list(UPDATES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", choices=SEEDS, default=list(SEEDS))
    parser.add_argument("--tune", action="store_true", help="try neighbouring settings on val")
    given = parser.parse_args()
    lab = Lab(given.out, given.multi30k, [tuple(pair) for pair in given.text])
    if set(given.ways) != {BASELINE}:
        lab.pretrain()
    for pairs in sorted(given.pairs):
        for name in given.ways:
            settings = lab.tune(name, pairs) if given.tune else SETTINGS[pairs][name]
            for seed in given.seeds:
                lab.learn(name, pairs, settings, seed)


if __name__ == "__main__":
    main()
