"""Train small models on the same data for the same minutes, and measure them.

    python scripts/lesson/run.py --corpus EN DE [--corpus EN DE ...] --minutes 5 OUT
        [--joined EN DE ...] [--gold EN DE GOLD] [--page FILE.md] [--members NAME ...]

English to German. The pairs of a --joined corpus are joined in ones to sixes, so that long texts
are as plain as short ones. GOLD holds word alignments of the files EN and DE, `0-0 1-2`, English
first. The speed of each architecture is measured first, in turn; a member then has as many updates
as it can do in the minutes at that speed, so what runs beside it costs it nothing. `mtrain` does
each step in a process of its own. What has a result in OUT/results is skipped, so that the same
command resumes. The guided member needs the run folders of both directions; otherwise the folder of
a member with a result may go. With all results report.py writes the page.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import corpus
import heads
import report
import torch
from origin import origin
from steps import mtrain, write_config, write_result

from mtrain.checkpoints.collection import list_checkpoints
from mtrain.checkpoints.format import load_checkpoint
from mtrain.console import say
from mtrain.data.folders import DataFolder, RunFolder
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
    def can_align(self) -> bool:
        """Whether it has attention from English to German."""
        return self.model.get("attention") != "none" and not self.is_reverse

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
BOTH = "both directions"  # alignments of these two, symmetrised
Gold = tuple[Path, Path, Path]  # sources, targets, alignments


class Lesson:
    """One run of the lesson, in a folder."""

    def __init__(
        self, out: Path, minutes: float, precision: str = "auto", gold: Gold | None = None
    ) -> None:
        self.out, self.minutes, self.precision, self.gold = out, minutes, precision, gold
        self.text = out / "text"
        self.speeds_path = out / "speeds.json"
        self.guide = out / "train.align"
        self._results = out / "results"

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
            mtrain("prepare", str(config))
            mtrain("train", str(config))
            events = read_metrics(RunFolder(run).metrics_path)
            valid = next(event for event in events if event["kind"] == "valid")
            speeds[name] = {
                "tokens_per_second": _median_speed(events),
                "tokens_per_update": valid["target_tokens"] / valid["update"],
            }
        write_result(self.speeds_path, speeds)

    def speed(self, name: str) -> dict[str, float]:
        """Return target tokens a second and an update of a member's architecture."""
        measured = json.loads(self.speeds_path.read_text("utf-8"))
        found: dict[str, float] = measured[name if MEMBERS[name].has_own_speed else FORWARD]
        return found

    def result(self, name: str) -> Any:
        """Return a result, or None if there is none yet."""
        path = self._result_path(name)
        return json.loads(path.read_text("utf-8")) if path.is_file() else None

    def _result_path(self, name: str) -> Path:
        return self._results / f"{name.replace(' ', '-')}.json"

    def _write_result(self, name: str, content: Any) -> None:
        self._results.mkdir(exist_ok=True)
        write_result(self._result_path(name), content)

    def learn(self, name: str) -> None:
        """Train one member for its updates, and measure it."""
        speed, member = self.speed(name), MEMBERS[name]
        if member.is_guided:
            self._make_guide()
        seconds_per_update = speed["tokens_per_update"] / speed["tokens_per_second"]
        updates = round(60 * self.minutes / seconds_per_update)
        budget = {"max_updates": updates, "valid_every": -(-updates // VALIDATIONS)}
        config = self._write_config(name, self.run_dir(name), budget)
        mtrain("prepare", str(config))
        mtrain("train", str(config))
        found = self._measure(name)
        if self.gold and member.can_align:
            found["alignment"] = self._alignment_errors(name, member.title)
        self._write_result(name, found)

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
        write_config(path, tree)
        return path

    def _make_guide(self) -> None:
        """Align the training set by both directions, and measure their alignments."""
        if not self.guide.is_file():
            texts = self.text / "train.en", self.text / "train.de"
            self._align(FORWARD, texts, self.guide, *self._reverse())
        if self.gold and self.result(BOTH) is None:
            told = f"{MEMBERS[FORWARD].title}, joined with the reverse direction"
            errors = self._alignment_errors(FORWARD, told, *self._reverse())
            self._write_result(BOTH, {"alignment": errors})

    def _reverse(self) -> list[str]:
        """Return the options that symmetrise with the reverse direction."""
        return ["--reverse", str(self.run_dir(REVERSE))]

    def _align(self, name: str, texts: Sequence[Path], output: Path, *options: str) -> None:
        """Align the words of two files by one member, or symmetrised by two."""
        mtrain("align", str(self.run_dir(name)), *map(str, texts), "--output", str(output),
               *options)  # fmt: skip

    def _alignment_errors(self, name: str, told: str, *options: str) -> dict[str, Any]:
        """Return the alignment error rate of a member, or of two symmetrised."""
        assert self.gold is not None
        *texts, gold = self.gold
        links = self.out / f"gold-{told.replace(' ', '-')}.align"
        self._align(name, texts, links, *options)
        files = {"alignments": links, "gold-alignments": gold,
                 "sources": texts[0], "references": texts[1]}  # fmt: skip
        given = [word for key, path in files.items() for word in (f"--{key}", str(path))]
        scored = json.loads(mtrain("score", "--json", *given))
        return {
            **{key: scored[key] for key in ("aer", "precision", "recall", "links")},
            "what": told,
        }

    def _measure(self, name: str) -> dict[str, Any]:
        """Return the results of a trained member."""
        run = RunFolder(self.run_dir(name))
        valid = [event for event in read_metrics(run.metrics_path) if event["kind"] == "valid"]
        share = self.minutes / valid[-1]["update"]
        newest = load_checkpoint(list_checkpoints(run.checkpoints)[-1], with_training=False)
        (scored,) = json.loads(mtrain("score", str(run.path), "--json"))["sets"]
        return {
            **origin(),
            "title": MEMBERS[name].title,
            "minutes": self.minutes,
            "threads": torch.get_num_threads(),  # OMP_NUM_THREADS, or the cores
            "precision": self.precision,
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

    def describe_data(self, sets: dict[str, list[corpus.Pair]]) -> None:
        """Write what the page says of the data, once they are prepared."""
        path = self.out / "data.json"
        if path.is_file():
            return
        folder = DataFolder(self.out / "data" / "forward")
        store = folder.store("train")
        sources = folder.tokenizers().source.decode(
            [store.source.row(row) for row in range(len(store))]
        )
        write_result(path, {
            "train_pairs": len(store),
            "train_tokens": int(store.target.lengths.sum()) + len(store),
            "longest_training_tokens": LONGEST_TOKENS,
            "longest_training_words": max(len(source.split()) for source in sources),
            "test_sentences": len(sets["test"]),
            "near_duplicates": corpus.near_duplicates(sets),
        })  # fmt: skip

    def assemble(self) -> None:
        """Write OUT/results.json of all results."""
        members = {name: self.result(name) for name in MEMBERS}
        aligned = [*members, BOTH]
        about = ("threads", "minutes", "precision", "command", "commit", "date", "machine")
        write_result(self.out / "results.json", {
            **{key: members[FORWARD][key] for key in about},
            "commit": ", ".join(sorted({member["commit"] for member in members.values()})),
            "data": json.loads((self.out / "data.json").read_text("utf-8")),
            "members": members,
            "alignment": {name: found["alignment"] for name in aligned
                          if (found := self.result(name)) and "alignment" in found},
            "gold": self.gold[2].name if self.gold else "",
        })  # fmt: skip


def _median_speed(events: list[dict[str, Any]]) -> float:
    speeds = [float(event["tokens_per_second"]) for event in events if event["kind"] == "train"]
    return statistics.median(speeds)


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
    gold = tuple(given.gold) if given.gold else None
    lesson = Lesson(given.out, given.minutes, given.precision, gold)
    sets = corpus.split(map(tuple, given.corpus))
    if given.joined:
        joined = corpus.join(corpus.split(map(tuple, given.joined)), given.most_joined)
        sets = {name: [*pairs, *joined[name]] for name, pairs in sets.items()}
    corpus.write(sets, lesson.text, LANGUAGES)
    lesson.measure_speeds()
    lesson.describe_data(sets)
    for name in given.members:
        if lesson.result(name) is None:
            say(f"== {MEMBERS[name].title}")
            lesson.learn(name)
        if name == FORWARD and not (given.out / "heads.json").is_file():
            heads.write_heads(lesson.run_dir(FORWARD), sets["test"][::4], given.out)
    if any(lesson.result(name) is None for name in MEMBERS):
        return
    lesson.assemble()
    page = given.page or given.out / "RESULTS.md"
    report.write_page(given.out, page)
    say(f"{page} is written")


if __name__ == "__main__":
    main()
