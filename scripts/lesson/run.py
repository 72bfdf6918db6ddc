"""Train small models on the same data for the same minutes, and measure them.

    python scripts/lesson/run.py --corpus EN DE [--corpus EN DE ...] --minutes 5 OUT
        [--joined EN DE ...] [--gold EN DE GOLD] [--page FILE.md] [--members NAME ...]

English to German. The pairs of a --joined corpus are joined in ones to sixes, so that long texts
are as plain as short ones. GOLD holds word alignments of the files EN and DE, `0-0 1-2`, English
first. The speed of each architecture is measured first, in turn; a member then has as many updates
as it can do in the minutes at that speed, so what runs beside it costs it nothing. `mtrain train`
trains each member in its own process, so an interrupted lesson resumes. At the end heads.py looks
for heads and report.py writes the page.
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
TRIAL_MINUTES = 0.75  # to measure an architecture's speed
VALIDATIONS = 10
TRANSFORMER = {
    "type": "transformer", "encoder_layers": 2, "decoder_layers": 2, "d_model": 192,
    "num_heads": 4, "ffn_dim": 768, "dropout": 0.15, "max_positions": 256,
}  # fmt: skip
RNN = {
    "type": "rnn",
    "embedding_dim": 192,
    "hidden_dim": 256,
    "dropout": 0.15,
    "max_positions": 256,
}


@dataclass(frozen=True)
class Member:
    """One model of the lesson."""

    title: str
    model: dict[str, Any]
    is_reverse: bool = False  # German to English, to symmetrise alignments
    is_guided: bool = False  # by the symmetrised alignments of the other two

    @property
    def has_own_speed(self) -> bool:
        """Whether the architecture is another than that of the plain Transformer."""
        return not (self.is_reverse or self.is_guided)


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

    def __init__(self, out: Path, minutes: float, precision: str = "auto") -> None:
        self.out, self.minutes, self.precision = out, minutes, precision
        self.text = out / "text"
        self.speeds_path = out / "speeds.json"
        self.guide = out / "train.align"

    def run_dir(self, name: str) -> Path:
        """Return the run folder of a member."""
        return self.out / "runs" / name

    def measure_speeds(self) -> None:
        """Train each architecture for a moment, in turn, while nothing else runs."""
        if self.speeds_path.is_file():
            return
        speeds = {}
        for name in (name for name, member in MEMBERS.items() if member.has_own_speed):
            run = self.out / "trials" / name
            config = self._write_config(name, run, {"max_minutes": TRIAL_MINUTES})
            _mtrain("prepare", config)
            _mtrain("train", config)
            events = read_metrics(RunFolder(run).metrics_path)
            last = next(event for event in events if event["kind"] == "valid")
            speeds[name] = {
                "tokens_per_second": _median_speed(events),
                "tokens_per_update": last["target_tokens"] / last["update"],
            }
        self.speeds_path.write_text(json.dumps(speeds, indent=1), "utf-8")

    def speed(self, name: str) -> dict[str, float]:
        """Return target tokens a second and an update of a member's architecture."""
        measured = json.loads(self.speeds_path.read_text("utf-8"))
        found: dict[str, float] = measured[name if MEMBERS[name].has_own_speed else FORWARD]
        return found

    def is_done(self, name: str) -> bool:
        """Whether a member is trained and scored."""
        return (self.run_dir(name) / "scores.json").is_file()

    def learn(self, name: str) -> None:
        """Train one member for its updates and score it on the test set."""
        speed = self.speed(name)
        seconds_per_update = speed["tokens_per_update"] / speed["tokens_per_second"]
        updates = round(60 * self.minutes / seconds_per_update)
        budget = {"max_updates": updates, "valid_every": -(-updates // VALIDATIONS)}
        config = self._write_config(name, self.run_dir(name), budget)
        _mtrain("prepare", config)
        _mtrain("train", config)
        run = self.run_dir(name)
        scores = subprocess.run(
            [sys.executable, "-m", "mtrain", "score", run, "--json"], stdout=subprocess.PIPE,
            check=True,
        ).stdout  # fmt: skip
        (run / "scores.json").write_bytes(scores)

    def _write_config(self, name: str, run: Path, training: dict[str, Any]) -> Path:
        member = MEMBERS[name]
        source, target = LANGUAGES[::-1] if member.is_reverse else LANGUAGES
        train = {side: str(self.text / f"train.{language}")
                 for side, language in (("source", source), ("target", target))}  # fmt: skip
        held_out = [{side: value.replace("train.", f"{split}.") for side, value in train.items()}
                    for split in ("valid", "test")]  # fmt: skip
        data = "guided" if member.is_guided else "reverse" if member.is_reverse else "forward"
        tree = {
            "run_dir": str(run),
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
                "optimizer": "muon",
                "precision": self.precision,
                "batch_tokens": 2400,
                "learning_rate": 4e-3,
                "warmup_updates": 100,
                "log_every": 10,
                **training,
            },
            "decoding": {"batch_tokens": 8000},
        }
        path = run.with_suffix(".yaml")
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
        share = self.minutes / valid[-1]["update"]
        newest = load_checkpoint(list_checkpoints(run.checkpoints)[-1], with_training=False)
        (scored,) = json.loads((run.path / "scores.json").read_text("utf-8"))["sets"]
        return {
            "title": MEMBERS[name].title,
            "parameters": sum(weight.numel() for weight in newest.weights.values()),
            "updates": valid[-1]["update"],
            "target_tokens": valid[-1]["target_tokens"],
            "tokens_per_second": self.speed(name)["tokens_per_second"],
            "dev_bleu": max(event["bleu"] for event in valid),
            "curve": [[round(share * event["update"], 2), event["bleu"]] for event in valid],
            "scores": {score["name"]: score["value"] for score in scored["scores"]},
            "signatures": {score["name"]: score["signature"] for score in scored["scores"]},
            "by_length": scored["by_length"],
        }


def _median_speed(events: list[dict[str, Any]]) -> float:
    return statistics.median(event["tokens_per_second"] for event in events
                             if event["kind"] == "train")  # fmt: skip


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
    parser.add_argument("--precision", default="auto", help="training.precision (auto)")
    parser.add_argument("--members", nargs="+", choices=MEMBERS, default=list(MEMBERS),
                        help="train these only; the page waits for all of them")  # fmt: skip
    given = parser.parse_args()
    if not given.corpus + given.joined:
        parser.error("give --corpus EN DE or --joined EN DE")
    lesson = Lesson(given.out, given.minutes, given.precision)
    sets = corpus.split(map(tuple, given.corpus))
    if given.joined:
        joined = corpus.join(corpus.split(map(tuple, given.joined)), given.most_joined)
        sets = {name: [*pairs, *joined[name]] for name, pairs in sets.items()}
    corpus.write(sets, lesson.text, LANGUAGES)
    lesson.measure_speeds()
    for name in given.members:
        member = MEMBERS[name]
        if member.is_guided and not lesson.guide.is_file():
            lesson.make_guide()
        if not lesson.is_done(name):
            say(f"== {member.title}")
            lesson.learn(name)
    if not all(map(lesson.is_done, MEMBERS)):
        return
    results = {
        **origin(),
        "threads": available_cores(),
        "minutes": given.minutes,
        "precision": given.precision,
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
