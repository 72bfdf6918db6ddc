"""Measure what the context of its document gains the translation of a sentence, on Europarl.

    python scripts/lesson/documents.py EUROPARL OUT [--text EN DE ...] [--contexts N ...]
        [--seeds SEED ...]

EUROPARL is a folder with consecutive lines of Europarl, train.en.gz and train.de.gz. They have no
marks of documents: one begins here where a line addresses the president, as a speech does, so the
lines before a line are what it follows, if not always of the same speech. The last documents are
test, those before them valid. A base learns sentences of the rest and of the --text files. Every
other model continues from it with the same number of updates: on sentences alone (context 1), or on
chunks of up to so many tokens that about N sentences fit. Each translates test line by line, and
those of chunks in chunks too, and in chunks whose lines are of other documents: where that is as
good, the context is not used. All seeds start from one base. `mtrain` does each step in a process
of its own. What has a result in OUT/results is skipped, so that the same command resumes; begin
several at once only when the base has one (`--contexts` alone). Prints the table so far.
"""

import argparse
import json
import random
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
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
    spread,
    write_config,
    write_result,
)

from mtrain.console import say
from mtrain.data.folders import DataFolder
from mtrain.text.lines import read_lines
from mtrain.text.tokenizer import SEPARATOR

SEEDS = (1, 2, 3)
SPEECH = re.compile(rb"(Mr|Madam) President\b")
HELD_OUT = {"test": 2000, "valid": 1000}  # lines at least
SIDES = ("en", "de")
CONTEXTS = {1: None, 3: 144, 8: 320}  # sentences: tokens of a chunk, about 38 a sentence
SOURCE_SHARE = 0.8  # of a chunk's tokens that `translate` fills: the target may be longer
LONGEST = 110  # tokens of a sentence, so that each fits into a chunk
SHARES = 1, 3  # of Europarl and of each of the other texts in what the base learns
SCHEDULE = {"optimizer": "muon", "batch_tokens": 2400, "keep_last": 1}
BASE: dict[str, Any] = {
    "tokenizer": {"type": "unigram", "vocab_size": 8000, "normalization": "nmt_nfkc",
                  "symbols": [SEPARATOR]},
    "model": {"encoder_layers": 3, "decoder_layers": 3, "d_model": 256, "num_heads": 4,
              "ffn_dim": 1024, "dropout": 0.2},
    "training": {**SCHEDULE, "learning_rate": 4e-3, "warmup_updates": 100, "max_updates": 4000,
                 "valid_every": 2000},
}  # fmt: skip
TUNING: dict[str, Any] = {
    **SCHEDULE, "learning_rate": 1e-3, "warmup_updates": 50, "max_updates": 600, "valid_every": 600
}  # fmt: skip
STRANGERS = "among strangers"
ALONE = re.compile(r"(\d[\d,]*) alone because their chunk")
COLUMNS = ("learnt", "sentences a chunk", "minutes", "translated", "seeds",
           "dev BLEU, lines alone", "BLEU of lines", "BLEU of documents",
           "lines alone by mismatch", "seconds")  # fmt: skip


class Lab:
    """The folder of all experiments."""

    def __init__(self, out: Path, europarl: Path, texts: list[tuple[Path, Path]]) -> None:
        self.out, self.europarl, self.texts = out.resolve(), europarl.resolve(), texts
        out = self.out
        self.text = out / "text"
        self.results = out / "results"
        for folder in (self.text, self.results):
            folder.mkdir(parents=True, exist_ok=True)

    def split(self) -> None:
        """Write train, valid and test with the number of each line's document."""
        if self._ids("mixed").exists():  # written last
            return
        english, german = (list(read_lines(self.europarl / f"train.{side}.gz")) for side in SIDES)
        numbers, document = [], 0
        for line in english:
            document += bool(SPEECH.match(line))
            numbers.append(document)
        end = len(numbers)
        for split in (*HELD_OUT, "train"):
            start = max(0, end - HELD_OUT.get(split, end))
            start = numbers.index(numbers[start])
            for side, lines in zip(SIDES, (english, german), strict=True):
                _write(self._file(split, side), lines[start:end])
            _write(self._ids(split), [b"%d" % number for number in numbers[start:end]])
            end = start
        self._mix()

    def _mix(self) -> None:
        """Write test once more, each document with lines of others in place of its own."""
        ids = list(read_lines(self._ids("test")))
        order = random.Random(1).sample(range(len(ids)), len(ids))
        for side in SIDES:
            lines = list(read_lines(self._file("test", side)))
            _write(self._file("mixed", side), [lines[row] for row in order])
        _write(self._ids("mixed"), ids)

    def teach_base(self) -> None:
        """Train what all others start from, unless that is done."""
        path, tree = self.results / "base.json", self._base()
        if read_result(path, tree) is None:
            minutes = self._train("base", tree)
            dev = learning_curve(self.out / "runs" / "base")
            write_result(path, {**origin(), "settings": tree, "minutes": minutes, "dev": dev})

    def _base(self) -> dict[str, Any]:
        data = self._europarl(1)
        data["train"][0]["weight"] = SHARES[0]
        data["train"] += [{**_pair(*files), "weight": SHARES[1]} for files in self.texts]
        return {**BASE, "data": data, "seed": 1}

    def learn(self, context: int, seed: int) -> None:
        """Train a model on chunks of so many sentences, and translate test; keep the result."""
        name = f"context-{context}-{seed}"
        path = self.results / f"{name}.json"
        tree = {
            "data": self._europarl(context), "seed": seed, "training": TUNING,
            "model": {"dropout": BASE["model"]["dropout"],
                      "init_from": str(self.out / "runs" / "base")},
        }  # fmt: skip
        settings = {**tree, "base": self._base(), "europarl": str(self.europarl),
                    "held_out": HELD_OUT, "source_share": SOURCE_SHARE}  # fmt: skip
        if read_result(path, settings) is not None:
            return
        minutes = self._train(name, tree)
        ways: dict[str, Any] = {"line by line": self._translate(name, "test", [])}
        if (tokens := CONTEXTS[context]) is not None:
            shorter = ["--set", f"decoding.context_tokens={round(SOURCE_SHARE * tokens)}"]
            for way, split in (("in chunks", "test"), (STRANGERS, "mixed")):
                ids = ["--document-ids", str(self._ids(split))]
                ways[way] = self._translate(name, split, [*ids, *shorter])
        dev = learning_curve(self.out / "runs" / name)
        write_result(path, {**origin(), "settings": settings, "context": context, "seed": seed,
                            "minutes": minutes, "dev": dev, "ways": ways,
                            "sentences": self._sentences(name)})  # fmt: skip
        for way, found in ways.items():
            say(f"{name}: {way} BLEU {found['lines']['BLEU']:.2f}")

    def describe(self) -> str:
        """Return the table of what has a result."""
        rows = []
        for context in CONTEXTS:
            paths = sorted(self.results.glob(f"context-{context}-?.json"))
            found = [json.loads(path.read_text("utf-8")) for path in paths]
            tokens = CONTEXTS[context]
            learnt = f"chunks of up to {tokens} tokens" if tokens else "sentences alone"
            for way in found[0]["ways"] if found else ():
                each = [one["ways"][way] for one in found]
                of_documents = spread(one["documents"]["BLEU"] for one in each)
                if way == STRANGERS:  # these are other documents
                    of_documents = ""
                rows.append((learnt, f"{found[0]['sentences']:.1f}",
                             f"{statistics.mean(one['minutes'] for one in found):.0f}",
                             way, str(len(found)), spread(map(best_dev_bleu, found)),
                             spread(one["lines"]["BLEU"] for one in each),
                             of_documents,
                             f"{statistics.mean(one['mismatched'] for one in each):.0f}",
                             f"{statistics.mean(one['seconds'] for one in each):.0f}"))  # fmt: skip
        return table(COLUMNS, rows)

    def _europarl(self, context: int) -> dict[str, Any]:
        """Return the keys of `data` to learn Europarl in chunks of so many sentences."""
        pair = _pair(self._file("train", "en"), self._file("train", "de"))
        data: dict[str, Any] = {"train": [pair], "filters": {"max_tokens": LONGEST}}
        if (tokens := CONTEXTS[context]) is not None:
            pair["documents"] = str(self._ids("train"))
            data["context"] = {"tokens": tokens}
        return data

    def _train(self, name: str, tree: Mapping[str, Any]) -> float:
        """Prepare, and train or resume; return the minutes of processor time of this call."""
        path, run = self.out / f"{name}.yaml", self.out / "runs" / name
        valid = _pair(self._file("valid", "en"), self._file("valid", "de"))
        test = {"name": "test", **_pair(self._file("test", "en"), self._file("test", "de"))}
        data = {"source_lang": "en", "target_lang": "de", "valid": [valid], "test": [test],
                **tree["data"]}  # fmt: skip
        write_config(path, {"run_dir": str(run), "device": "cpu", **tree, "data": data})
        before = processor_minutes()
        mtrain("prepare", str(path))
        mtrain("train", str(path))
        return round(processor_minutes() - before, 2)

    def _translate(self, name: str, split: str, options: Sequence[str]) -> dict[str, Any]:
        """Translate test, or it mixed; return scores by lines and by documents, and the time."""
        output = self.out / f"{name}.{split}.{'chunks' if options else 'lines'}.de"
        command = [sys.executable, "-m", "mtrain", "translate", str(self.out / "runs" / name),
                   str(self._file(split, "en")), "--output", str(output), *options]  # fmt: skip
        before = processor_minutes()
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        seconds = round(60 * (processor_minutes() - before), 1)
        told = ALONE.search(done.stderr)
        documents = [_join(file, self._ids(split)) for file in (output, self._file(split, "de"))]
        return {
            "lines": _score(output, self._file(split, "de")), "documents": _score(*documents),
            "mismatched": int(told[1].replace(",", "")) if told else 0, "seconds": seconds,
        }  # fmt: skip

    def _sentences(self, name: str) -> float:
        """Return the mean number of sentences in the chunks that a model has learnt from."""
        joined = DataFolder(self.out / "runs" / name / "data").manifest().get("chunks")
        sizes = joined[0]["chunks"] if joined else {"1": 1}
        return sum(int(size) * count for size, count in sizes.items()) / sum(sizes.values())

    def _file(self, split: str, side: str) -> Path:
        return self.text / f"{split}.{side}"

    def _ids(self, split: str) -> Path:
        return self.text / f"{split}.ids"


def _pair(source: Path, target: Path) -> dict[str, Any]:
    return {"source": str(source), "target": str(target)}


def _write(path: Path, lines: Sequence[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def _join(path: Path, ids: Path) -> Path:
    """Write the file with the lines of each document as one line; return its path."""
    lines = zip(read_lines(ids), read_lines(path), strict=True)
    joined = path.parent / f"{path.name}.joined"
    _write(joined, [b" ".join(line for _, line in document)
                    for _, document in groupby(lines, key=lambda pair: pair[0])])  # fmt: skip
    return joined


def _score(hypotheses: Path, references: Path) -> dict[str, Any]:
    """Return the values of the metrics by name, and their signatures."""
    found = mtrain("score", "--hypotheses", str(hypotheses), "--references", str(references),
                   "--target-lang", "de", "--metrics", "bleu,chrf", "--json")  # fmt: skip
    scores = json.loads(found)["sets"][0]["scores"]
    return {**{score["name"]: score["value"] for score in scores},
            "signatures": [score["signature"] for score in scores]}  # fmt: skip


def main() -> None:
    """Run what has no result yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("europarl", type=Path, metavar="EUROPARL")
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder")
    parser.add_argument("--text", nargs=2, type=Path, action="append", default=[],
                        metavar=("EN", "DE"), help="more text for the base")  # fmt: skip
    parser.add_argument("--contexts", nargs="*", type=int, choices=CONTEXTS, default=[*CONTEXTS])
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=list(SEEDS))
    given = parser.parse_args()
    lab = Lab(given.out, given.europarl, [tuple(pair) for pair in given.text])
    lab.split()
    lab.teach_base()
    for seed in given.seeds:
        for context in given.contexts:
            lab.learn(context, seed)
    print(lab.describe())


if __name__ == "__main__":
    main()
