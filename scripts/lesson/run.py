"""Train small models on the same data for the same minutes, and measure them.

    python scripts/lesson/run.py --corpus EN DE [--corpus EN DE ...] --minutes 5 OUT
        [--joined EN DE ...] [--gold EN DE GOLD] [--page FILE.md]

English to German. The pairs of a --joined corpus are joined in ones to sixes, so that long texts
are as plain as short ones. GOLD holds word alignments of the files EN and DE, `0-0 1-2`, English
first. `mtrain train` trains each member in its own process, so an interrupted lesson resumes. At
the end heads.py looks for heads and report.py writes the page.
"""

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corpus
import heads
import report
import yaml
from origin import origin

from mtrain.checkpoints.collection import list_checkpoints
from mtrain.checkpoints.format import load_checkpoint
from mtrain.console import say
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.text.tokenizer import available_cores
from mtrain.training.log import read_metrics

LANGUAGES = ("en", "de")
LONGEST_TOKENS = 60  # in training; the test set has longer sentences
TRANSFORMER = {
    "type": "transformer", "encoder_layers": 2, "decoder_layers": 2, "d_model": 192,
    "num_heads": 4, "ffn_dim": 768, "dropout": 0.1, "max_positions": 256,
}  # fmt: skip
RNN = {"type": "rnn", "embedding_dim": 192, "hidden_dim": 256, "dropout": 0.1, "max_positions": 256}


@dataclass(frozen=True)
class Member:
    """One model of the lesson."""

    title: str
    model: dict[str, Any]
    is_reverse: bool = False  # German to English, to symmetrise alignments
    is_guided: bool = False  # by the symmetrised alignments of the other two


MEMBERS = {
    "rnn-none": Member("RNN without attention", {**RNN, "attention": "none", "hidden_dim": 320}),
    "rnn-additive": Member("RNN, additive attention", RNN),
    "transformer-sinusoidal": Member("Transformer, sinusoidal positions", TRANSFORMER),
    "transformer-learned": Member(
        "Transformer, learned positions", {**TRANSFORMER, "positions": "learned"}
    ),
    "transformer-rotary": Member(
        "Transformer, rotary positions", {**TRANSFORMER, "positions": "rotary"}
    ),
    "transformer-reverse": Member("Transformer, German to English", TRANSFORMER, is_reverse=True),
    "transformer-guided": Member("Transformer, guided alignment", TRANSFORMER, is_guided=True),
}
FORWARD, REVERSE = "transformer-sinusoidal", "transformer-reverse"


class Lesson:
    """One run of the lesson, in a folder."""

    def __init__(self, out: Path, minutes: float) -> None:
        self.out, self.minutes = out, minutes
        self.text = out / "text"
        self.guide = out / "train.align"

    def run_dir(self, name: str) -> Path:
        """Return the run folder of a member."""
        return self.out / "runs" / name

    def learn(self, name: str) -> None:
        """Train one member and score it on the test set."""
        config = self._write_config(name)
        _mtrain("prepare", config)
        _mtrain("train", config)
        run = self.run_dir(name)
        scores = subprocess.run(
            [sys.executable, "-m", "mtrain", "score", run, "--json"], stdout=subprocess.PIPE,
            check=True,
        ).stdout  # fmt: skip
        (run / "scores.json").write_bytes(scores)

    def _write_config(self, name: str) -> Path:
        member = MEMBERS[name]
        source, target = LANGUAGES[::-1] if member.is_reverse else LANGUAGES
        train = {side: str(self.text / f"train.{language}")
                 for side, language in (("source", source), ("target", target))}  # fmt: skip
        held_out = [{side: value.replace("train.", f"{split}.") for side, value in train.items()}
                    for split in ("valid", "test")]  # fmt: skip
        data = "guided" if member.is_guided else "reverse" if member.is_reverse else "forward"
        tree = {
            "run_dir": str(self.run_dir(name)),
            "data_dir": str(self.out / "data" / data),
            "data": {
                "source_lang": source,
                "target_lang": target,
                "train": [train | ({"alignments": str(self.guide)} if member.is_guided else {})],
                "valid": held_out[:1],
                "test": held_out[1:],
                "filters": {"max_tokens": LONGEST_TOKENS},
            },
            "tokenizer": {"type": "unigram", "vocab_size": 5000, "normalization": "nmt_nfkc"},
            "model": member.model,
            "training": {
                "batch_tokens": 1500,
                "max_minutes": self.minutes,
                "learning_rate": 2e-3,
                "warmup_updates": 200,
                "valid_every": 300,
                "log_every": 10,
            },
            "decoding": {"batch_tokens": 8000},
        }
        path = self.out / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")
        return path

    def align(self, name: str, texts: tuple[Path, Path], output: Path, *options: Any) -> None:
        """Align the words of two files by one member, or symmetrised by two."""
        _mtrain("align", self.run_dir(name), *texts, "--output", output, *options)

    def both_ways(self) -> list[Any]:
        """Return the options that symmetrise with the reverse direction."""
        return ["--reverse", self.run_dir(REVERSE)]

    def make_guide(self) -> None:
        """Align the training set by the Transformers of both directions."""
        texts = self.text / "train.en", self.text / "train.de"
        self.align(FORWARD, texts, self.guide, *self.both_ways())

    def measure_alignment(self, gold: tuple[Path, Path, Path]) -> dict[str, Any]:
        """Return the alignment error rate of each member that has attention."""
        texts, measured = gold[:2], {}
        plans: dict[str, tuple[str, list[Any]]] = {
            name: (name, [])
            for name, member in MEMBERS.items()
            if name != "rnn-none" and not member.is_reverse
        }
        plans["both directions"] = (FORWARD, self.both_ways())
        for what, (name, options) in plans.items():
            links = self.out / f"gold.{what.replace(' ', '-')}.align"
            self.align(name, texts, links, *options)
            command = [sys.executable, "-m", "mtrain", "score", "--json"]
            files = {"alignments": links, "gold-alignments": gold[2],
                     "sources": texts[0], "references": texts[1]}  # fmt: skip
            command += [word for key, path in files.items() for word in (f"--{key}", str(path))]
            scored = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
            title = MEMBERS[name].title
            measured[what] = {
                **{key: scored[key] for key in ("aer", "precision", "recall", "links")},
                "what": f"{title}, joined with the reverse direction" if options else title,
            }
        return measured

    def results(self, name: str) -> dict[str, Any]:
        """Return the results of one member."""
        run = RunFolder(self.run_dir(name))
        events = read_metrics(run.metrics_path)
        valid = [event for event in events if event["kind"] == "valid"]
        speeds = [event["tokens_per_second"] for event in events if event["kind"] == "train"]
        newest = load_checkpoint(list_checkpoints(run.checkpoints)[-1], with_training=False)
        (scored,) = json.loads((run.path / "scores.json").read_text("utf-8"))["sets"]
        return {
            "title": MEMBERS[name].title,
            "parameters": sum(weight.numel() for weight in newest.weights.values()),
            "updates": valid[-1]["update"],
            "target_tokens": valid[-1]["target_tokens"],
            "tokens_per_second": statistics.median(speeds),
            "dev_bleu": max(event["bleu"] for event in valid),
            "curve": [[round(event["minutes"], 2), event["bleu"]] for event in valid],
            "scores": {score["name"]: score["value"] for score in scored["scores"]},
            "signatures": {score["name"]: score["signature"] for score in scored["scores"]},
            "by_length": scored["by_length"],
        }


def _mtrain(*arguments: Any) -> None:
    subprocess.run([sys.executable, "-m", "mtrain", *map(str, arguments)], check=True)


def _about_data(lesson: Lesson, sets: dict[str, list[corpus.Pair]]) -> dict[str, Any]:
    folder = DataFolder(lesson.out / "data" / "forward")
    store = folder.store("train")
    sources = folder.tokenizers().source.decode(
        [store.source.row(row) for row in range(len(store))]
    )
    return {
        "train_pairs": len(store),
        "train_tokens": int(store.target.lengths.sum()) + len(store),
        "longest_training_tokens": LONGEST_TOKENS,
        "longest_training_words": max(len(source.split()) for source in sources),
        "test_sentences": len(sets["test"]),
        "near_duplicates": corpus.near_duplicates(sets),
    }


def main() -> None:
    """Run the lesson, skipping what is done already."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", metavar="OUT", type=Path, help="output folder")
    parser.add_argument("--corpus", nargs=2, type=Path, action="append", default=[],
                        metavar=("EN", "DE"), help="two files; repeatable")  # fmt: skip
    parser.add_argument("--joined", nargs=2, type=Path, action="append", default=[],
                        metavar=("EN", "DE"),
                        help="two files whose pairs are joined in ones, twos, ...")  # fmt: skip
    parser.add_argument("--most-joined", type=int, default=6, help="pairs in a text at most (6)")
    parser.add_argument("--gold", nargs=3, type=Path, metavar=("EN", "DE", "GOLD"),
                        help="sentences with manual word alignments")  # fmt: skip
    parser.add_argument("--page", type=Path, metavar="FILE.md",
                        help="the page to write (OUT/RESULTS.md)")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=5.0, help="training time per member (5)")
    given = parser.parse_args()
    if not given.corpus + given.joined:
        parser.error("give --corpus EN DE or --joined EN DE")
    lesson = Lesson(given.out, given.minutes)
    sets = corpus.split(map(tuple, given.corpus))
    if given.joined:
        joined = corpus.join(corpus.split(map(tuple, given.joined)), given.most_joined)
        sets = {name: [*pairs, *joined[name]] for name, pairs in sets.items()}
    corpus.write(sets, lesson.text, LANGUAGES)
    for name, member in MEMBERS.items():
        if member.is_guided and not lesson.guide.is_file():
            lesson.make_guide()
        if not (lesson.run_dir(name) / "scores.json").is_file():
            say(f"== {member.title}")
            lesson.learn(name)
    results = {
        **origin(),
        "threads": available_cores(),
        "minutes": given.minutes,
        "data": _about_data(lesson, sets),
        "members": {name: lesson.results(name) for name in MEMBERS},
        "alignment": lesson.measure_alignment(tuple(given.gold)) if given.gold else {},
        "gold": str(given.gold[2].name) if given.gold else "",
    }
    (given.out / "results.json").write_text(json.dumps(results, indent=1), "utf-8")
    heads.write_heads(lesson.run_dir(FORWARD), sets["test"][::4], given.out)
    report.write_page(given.out, given.page or given.out / "RESULTS.md")
    say(f"{given.page or given.out / 'RESULTS.md'} is written")


if __name__ == "__main__":
    main()
