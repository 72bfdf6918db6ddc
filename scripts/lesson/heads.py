"""Find Transformer heads with one function: attend to a neighbour, align words, resolve `it`.

    python scripts/lesson/heads.py RUN SOURCES TARGETS --output DIR

Runs a trained model over held-out sentences and their translations, measures every head, and writes
DIR/heads.json and DIR/pictures/. It looks only for the functions in MEASURES and PAIRS, and also
reports those that it does not find.

Shapes: L layers, H heads; R rows and C columns of attention, one row per attending token.
"""

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtrain.commands.attention import see
from mtrain.data.folders import RunFolder
from mtrain.data.store import FloatArray
from mtrain.errors import UserError
from mtrain.evaluation.attention import SentenceAttention, merge_subwords
from mtrain.evaluation.heatmaps import check_available, write_heatmap
from mtrain.inference.load import load_run
from mtrain.text.lines import clean_bytes, clean_line, read_lines, write_whole

MEASURES = {
    "encoder": ("previous", "same", "next", "first", "end", "entropy"),
    "decoder": ("previous", "same", "first", "entropy"),  # causal: later tokens are masked
    "cross": ("previous", "same", "next", "first", "end", "diagonal", "entropy"),
}
# The measures that the lesson names.
SOUGHT = (  # kind, measure, what it is a share of, the claim of the lesson
    ("encoder", "previous", "of its weight", "an encoder head looks at the previous token"),
    ("encoder", "next", "of its weight", "an encoder head looks at the next token"),
    ("decoder", "previous", "of its weight", "a decoder head looks at the previous token"),
    ("cross", "diagonal", "of the tokens", "a decoder head follows the source steadily"),
)
WORDS_SHOWN = 12  # approximate length of the sentence in the pictures


@dataclass(frozen=True)
class Pair:
    """Two sentences that differ in the last word, which decides the noun that `it` refers to."""

    beginning: str
    nouns: tuple[str, str]
    endings: tuple[str, str]  # with the first, `it` refers to the first noun

    @property
    def sentences(self) -> tuple[str, str]:
        """The two sentences."""
        first, second = (f"{self.beginning} {ending}." for ending in self.endings)
        return first, second


PAIRS = (
    Pair("The animal didn't cross the street because it was too",
         ("animal", "street"), ("tired", "wide")),
    Pair("The table didn't fit through the door because it was too",
         ("table", "door"), ("big", "small")),
    Pair("The stone broke the window because it was so", ("stone", "window"), ("heavy", "thin")),
    Pair("The car passed the bus because it was so", ("car", "bus"), ("fast", "slow")),
    Pair("I poured water from the bottle into the cup until it was",
         ("bottle", "cup"), ("empty", "full")),
)  # fmt: skip


class Watcher:
    """A trained model that returns its attention over given sentence pairs."""

    def __init__(self, run_dir: Path) -> None:
        run = RunFolder.open(run_dir)
        self._loaded = load_run(run, run.config(), None)
        self._decoder = self._loaded.forced_decoder()

    def watch(self, pairs: Sequence[tuple[str, str]]) -> list[SentenceAttention]:
        """Return all attention weights of each pair; skip pairs too long for the model."""
        sources, targets = (
            [clean_line(text) for text in side] for side in zip(*pairs, strict=True)
        )
        encoded = self._loaded.encode_pairs(sources, targets)
        return [
            see(self._loaded.tokenizers, self._decoder, ids)
            for segments in encoded
            for ids in segments
            if max(map(len, ids)) <= self._decoder.max_ids
        ]


def measure_rows(weights: FloatArray) -> dict[str, FloatArray]:
    """Return each measure of each head (L,H,R,C) per row: (L,H,rows that have the measure).

    A row's own position is its index; if rows and columns differ in number, the proportional
    position. The measures are the weight on the position before it, on it and after it, and on the
    first and last column where those are farther away. `same` excludes the first row, which in a
    decoder has nothing else to attend to. `diagonal` is 1 where the argmax is the own position;
    `entropy` is in bits.
    """
    rows, columns = weights.shape[2:]
    row, column = np.indices((rows, columns))
    own = np.rint(row * (columns - 1) / max(1, rows - 1))
    distance = column - own
    is_far = abs(distance) > 1
    places = {
        "previous": distance == -1,
        "same": (distance == 0) & (row > 0),
        "next": distance == 1,
        "first": (column == 0) & is_far,
        "end": (column == columns - 1) & is_far,
    }
    measured: dict[str, FloatArray] = {name: weights[:, :, at] for name, at in places.items()}
    measured["diagonal"] = (weights.argmax(-1) == own[:, 0]).astype(np.float32)
    measured["entropy"] = -(weights * np.log2(np.maximum(weights, 1e-12))).sum(-1)
    return measured


def compare_heads(name: str, by_head: FloatArray) -> dict[str, Any]:
    """Return the values (L,H) of a measure, with the best head and the mean of all.

    The best head has the highest value; for entropy, the lowest. Layers and heads count from 1.
    """
    rounded = by_head.astype(np.float64).round(4).tolist()
    place = by_head.argmin() if name == "entropy" else by_head.argmax()
    layer, head = (int(number) for number in np.unravel_index(place, by_head.shape))
    return {
        "layer": layer + 1,
        "head": head + 1,
        "best": rounded[layer][head],
        "mean": round(float(by_head.mean()), 4),
        "by_head": rounded,
    }


def compare_all(sentences: Sequence[SentenceAttention]) -> dict[str, dict[str, Any]]:
    """Return every measure of every kind, averaged over all rows of all sentences."""
    rows: dict[tuple[str, str], list[FloatArray]] = defaultdict(list)
    for sentence in sentences:
        for kind, weights in sentence.weights.items():
            measured = measure_rows(weights)
            for name in MEASURES[kind]:
                rows[kind, name].append(measured[name])
    kinds: dict[str, dict[str, Any]] = {kind: {} for kind, _ in rows}
    for (kind, name), arrays in rows.items():
        together = np.concatenate(arrays, axis=-1)
        if together.shape[-1]:
            kinds[kind][name] = compare_heads(name, together.mean(axis=-1))
    return kinds


def look_of_it(sentence: SentenceAttention, nouns: tuple[str, str]) -> FloatArray:
    """Return the encoder attention (L,H,2) from `it` to each of two nouns."""
    words = merge_subwords(sentence)
    looks: FloatArray = words.weights["encoder"][:, :, words.source.index("it")]
    return looks[:, :, [words.source.index(noun) for noun in nouns]]


def judge_it(looks_of_pairs: Sequence[tuple[FloatArray, FloatArray]]) -> dict[str, Any]:
    """Return which heads resolve `it`, from the two `look_of_it` of each pair.

    A head is right about a pair if it prefers the right noun in both sentences; the chance is one
    in four. `expected_...` is the number of heads expected by chance to be right about all pairs,
    or about as many pairs as the best head.
    """
    margins = np.stack([[first[..., 0] - first[..., 1], second[..., 1] - second[..., 0]]
                        for first, second in looks_of_pairs])  # (pairs, 2, L, H)  # fmt: skip
    right = (margins[:, 0] > 0) & (margins[:, 1] > 0)
    num_right = right.sum(axis=0)
    num_pairs, num_heads = len(looks_of_pairs), num_right.size
    order = num_right + margins.mean(axis=(0, 1)) / 2  # ties: the largest margin
    layer, head = (int(n) for n in np.unravel_index(order.argmax(), order.shape))
    most = int(num_right.max())
    chances = [math.comb(num_pairs, n) * 3 ** (num_pairs - n) / 4**num_pairs
               for n in range(num_pairs + 1)]  # fmt: skip
    return {
        "heads": num_heads,
        "layer": layer + 1,
        "head": head + 1,
        "right_of_best": most,
        "expected_as_good_as_best": num_heads * sum(chances[most:]),
        "right_in_all": int(right.all(axis=0).sum()),
        "expected_right_in_all": num_heads * chances[-1],
        "pairs": [
            {"heads_right": int(right[n].sum()),
             "looks_of_best": [look[layer, head].astype(float).round(4).tolist() for look in pair]}
            for n, pair in enumerate(looks_of_pairs)
        ],
    }  # fmt: skip


def find_heads(
    run_dir: Path, sentences: list[tuple[str, str]], pictures: Path | None = None
) -> dict[str, Any]:
    """Measure every head of a run's Transformer on sentence pairs; draw the best ones on request.

    Raises `UserError` if the model is no Transformer, or if every sentence is too long for it.
    """
    watcher = Watcher(run_dir)
    seen = watcher.watch(sentences)
    if not seen:
        raise UserError("none of the sentences can be read by this model at once")
    if set(seen[0].weights) != set(MEASURES):
        raise UserError(f"{run_dir}: no Transformer with encoder and decoder")
    # the encoder does not see the target, so any target will do
    of_it = watcher.watch([(text, text) for pair in PAIRS for text in pair.sentences])
    if len(of_it) < 2 * len(PAIRS):
        raise UserError(f"{run_dir}: this model cannot read the sentences about `it` at once")
    by_pair = zip(PAIRS, of_it[::2], of_it[1::2], strict=True)
    it = judge_it([(look_of_it(first, pair.nouns), look_of_it(second, pair.nouns))
                   for pair, first, second in by_pair])  # fmt: skip
    for told, pair in zip(it["pairs"], PAIRS, strict=True):
        told |= {"sentences": pair.sentences, "nouns": pair.nouns}
    found = {"run": run_dir.name, "sentences": len(seen), "kinds": compare_all(seen), "it": it}
    if pictures:
        found["pictures"] = draw(pictures, found, seen, of_it[:2])
    return found


def draw(
    folder: Path,
    found: dict[str, Any],
    seen: Sequence[SentenceAttention],
    of_it: Sequence[SentenceAttention],
) -> dict[str, str]:
    """Write pictures of the best heads; return what each shows, by file name."""
    check_available("pictures of heads")
    folder.mkdir(parents=True, exist_ok=True)
    shown = min(seen, key=lambda sentence: abs(len(merge_subwords(sentence).source) - WORDS_SHOWN))
    previous, aligning = found["kinds"]["encoder"]["previous"], found["kinds"]["cross"]["diagonal"]
    plans = [
        ("previous-token.png", "The encoder head that looks most at the previous token",
         shown, "encoder", previous),
        ("alignment.png", "The head that follows the source most closely, over words",
         merge_subwords(shown), "cross", aligning),
        *((f"it-{ending}.png", "The encoder head that is right about `it` most often, over words",
           merge_subwords(sentence), "encoder", found["it"])
          for ending, sentence in zip(PAIRS[0].endings, of_it, strict=True)),
    ]  # fmt: skip
    for name, _, sentence, kind, head in plans:
        write_heatmap(folder / name, sentence, kind, head["layer"] - 1, head["head"] - 1)
    return {name: f"{what}: layer {head['layer']}, head {head['head']}"
            for name, what, _, _, head in plans}  # fmt: skip


def write_heads(run_dir: Path, sentences: list[tuple[str, str]], out: Path) -> None:
    """Write OUT/heads.json and OUT/pictures/."""
    found = find_heads(run_dir, sentences, out / "pictures")
    with write_whole(out / "heads.json") as file:
        file.write(json.dumps(found, indent=1).encode() + b"\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = (columns, ["---"] * len(columns), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_tables(found: dict[str, Any]) -> str:
    """Return tables: the best head per kind and measure, and the attention from `it`."""
    best = table(
        ("attention", "measure", "best head", "value", "mean of all heads"),
        ((kind, name, f"layer {one['layer']}, head {one['head']}", f"{one['best']:.3f}",
          f"{one['mean']:.3f}") for kind, measures in found["kinds"].items()
         for name, one in measures.items()),
    )  # fmt: skip
    meaning = (
        f"\nMeans over {found['sentences']} held-out sentence pairs of {found['run']}: the weight "
        "on the token before, at and after the own position (`cross`: the proportional position in "
        "the source), and on the first token and the end mark where they are farther away. "
        "`diagonal`: how often the argmax is the own position. `entropy`: bits, lowest is best.\n\n"
    )

    def looks(pair: dict[str, Any]) -> list[str]:
        (first, second), both = pair["nouns"], pair["looks_of_best"]
        return [f"{first} {look[0]:.3f}, {second} {look[1]:.3f}" for look in both]

    columns = ("first", "second", "heads right in both", "best head in the first", "in the second")
    pairs = found["it"]["pairs"]
    of_it = ([*pair["sentences"], str(pair["heads_right"]), *looks(pair)] for pair in pairs)
    return best + meaning + table(columns, of_it)


def main() -> None:
    """Measure the run that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("sources", type=Path, metavar="SOURCES")
    parser.add_argument("targets", type=Path, metavar="TARGETS")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--sentences", type=int, default=300, help="maximum number (300)")
    given = parser.parse_args()
    try:
        sides = [[clean_bytes(line) for line in read_lines(path)]
                 for path in (given.sources, given.targets)]  # fmt: skip
        if len(sides[0]) != len(sides[1]):
            raise UserError(f"{given.sources} and {given.targets} differ in their number of lines")
        pairs = [pair for pair in zip(*sides, strict=True) if all(pair)]
        step = max(1, math.ceil(len(pairs) / given.sentences))
        write_heads(given.run, pairs[::step], given.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
