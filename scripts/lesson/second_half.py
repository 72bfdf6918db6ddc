"""Write the page of the lesson's second half: BERT, and what a translator gains from it.

    python scripts/lesson/second_half.py OUT SENTENCES --page FILE.md

Reads the BERT and the results that transfer.py has left in OUT. SENTENCES is a text that the BERT
has not learnt from; its heads are measured on it.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import transfer
from heads import PAIRS, compare_all, judge_it, look_of_it, table
from steps import best_dev_bleu, spread

from mtrain.evaluation.attention import SentenceAttention
from mtrain.evaluation.heatmaps import check_available
from mtrain.inference.load import LoadedRun, load
from mtrain.text.lines import clean_bytes, read_lines, write_whole
from mtrain.text.tokenizer import MASK

END = "</s>"
MOST_SENTENCES = 300  # whose heads are measured
TOP = 5
# The word in brackets is masked. Written before any model was trained.
BLANKS = (
    "A man is riding a [bike] down the street.",
    "Two dogs are running in the [snow].",
    "A woman is playing the [guitar] on stage.",
    "The children are sitting on the [floor].",
    "I don't [know] what you mean.",
    "She asked me if I [could] help her.",
    "Ein Mann [steht] auf einer Leiter.",
    "Zwei Frauen sitzen auf einer [Bank].",
    "Ein kleines Mädchen spielt mit einem [Ball].",
    "Ich habe heute keine [Zeit].",
    "Kannst du mir bitte [helfen]?",
    "Tom ist älter [als] Maria.",
)
COLOURS = {  # Okabe and Ito
    "scratch": "#000000",
    "features": "#009E73",
    "encoder": "#E69F00",
    "both": "#0072B2",
}

Curve = dict[str, list[tuple[int, list[float]]]]  # by way: pairs, and test BLEU by seed


def fill_blanks(run: LoadedRun) -> Iterator[tuple[str, str, list[tuple[str, float]]]]:
    """Yield each sentence with its mask, the word that was there, and the likeliest words."""
    hidden = [text[text.index("[") + 1 : text.index("]")] for text in BLANKS]
    masked = [text.replace(f"[{word}]", MASK) for text, word in zip(BLANKS, hidden, strict=True)]
    filled = run.fill(masked, top=TOP)
    for text, word, line in zip(masked, hidden, filled, strict=True):
        yield text, word, [(guess.word, guess.probability) for guess in line.masks[0]]


def describe_blanks(run: LoadedRun) -> str:
    """Return a table of the masked predictions, and how many are right."""
    filled = list(fill_blanks(run))
    first = sum(guesses[0][0] == word for _, word, guesses in filled)
    among = sum(word in [guess for guess, _ in guesses] for _, word, guesses in filled)
    rows = ((text, word, ", ".join(f"{guess} {share:.2f}" for guess, share in guesses))
            for text, word, guesses in filled)  # fmt: skip
    return (
        table(("sentence", "the word", "likeliest words, with probabilities"), rows)
        + f"\nThe word is the likeliest in {first} of {len(filled)} sentences, and among the "
        f"first {TOP} in {among}. A word of several pieces cannot be found.\n"
    )


def see(run: LoadedRun, texts: Sequence[str]) -> list[SentenceAttention]:
    """Return the attention in each text that the BERT reads at once."""
    filler = run.filler()
    encoded = filler.encode([text.encode() for text in texts])
    pieces = run.tokenizers.source.pieces
    return [SentenceAttention([*pieces(ids), END], [], filler.attention(ids))
            for ids in encoded if 0 < len(ids) <= filler.max_ids]  # fmt: skip


def describe_heads(run: LoadedRun, sentences: Path) -> str:
    """Return a table of the heads with one function, and what heads make of `it`."""
    texts = [clean_bytes(line) for line in read_lines(sentences)]
    seen = see(run, texts[:: max(1, len(texts) // MOST_SENTENCES)])
    measures = compare_all(seen)["encoder"]
    rows = ((name, f"layer {one['layer']}, head {one['head']}", f"{one['best']:.2f}",
             f"{one['mean']:.2f}") for name, one in measures.items())  # fmt: skip
    of_it = see(run, [text for pair in PAIRS for text in pair.sentences])
    looks = zip(PAIRS, of_it[::2], of_it[1::2], strict=True)
    it = judge_it([(look_of_it(first, pair.nouns), look_of_it(second, pair.nouns))
                   for pair, first, second in looks])  # fmt: skip
    return (
        table(("measure", "best head", "value", "mean of all heads"), rows)
        + f"\nMeans over {len(seen)} sentences: the share of a head's attention on the token "
        "before, on the token itself, after it, and on the first token and the end mark where "
        "they are farther away; `entropy` in bits, lowest is best.\n\n"
        f"`it`: {it['right_in_all']} of {it['heads']} heads look at the right noun in all "
        f"{len(PAIRS)} pairs of sentences; {it['expected_right_in_all']:.2f} would do so by "
        f"chance. The best head is right in {it['right_of_best']} pairs; by chance "
        f"{it['expected_as_good_as_best']:.1f} heads would be at least as good.\n"
    )


def gather(results: Path) -> dict[tuple[int, str], list[dict[str, Any]]]:
    """Return the results by pairs and way, in the settings with most seeds."""
    found: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    for path in sorted(results.glob("*-[0-9].json")):
        result = json.loads(path.read_text("utf-8"))
        key = result["pairs"], result["way"], json.dumps(result["changes"], sort_keys=True)
        found.setdefault(key, []).append(result)
    fewest_first = sorted(found.items(), key=lambda item: len(item[1]))
    return {(pairs, way): each for (pairs, way, _), each in fewest_first}


def describe_transfer(results: Path, pictures: Path) -> str:
    """Return the table of gains, and draw the curve."""
    found = gather(results)
    if not found:
        return "Not measured yet.\n"
    rows = []
    curve: Curve = {}
    for (pairs, way), each in sorted(found.items(), key=lambda item: _place(*item[0])):
        test = [result["test"]["BLEU"] for result in each]
        base = found.get((pairs, transfer.BASELINE))
        gain = ""
        if base and way != transfer.BASELINE:
            mean = statistics.mean(result["test"]["BLEU"] for result in base)
            gain = f"{statistics.mean(test) - mean:+.1f}"
        settings = ", ".join(f"{key.partition('.')[2]} {value}"
                             for key, value in sorted(each[0]["changes"].items()))  # fmt: skip
        rows.append((f"{pairs:,}", transfer.WAYS[way].title, settings, str(len(each)),
                     spread(map(best_dev_bleu, each)), spread(test), gain,
                     f"{statistics.mean(result['minutes'] for result in each):.0f}"))  # fmt: skip
        curve.setdefault(way, []).append((pairs, test))
    draw(curve, pictures / "transfer.png")
    (signature,) = {result["signatures"]["BLEU"] for each in found.values() for result in each}
    columns = ("pairs", "start", "settings", "seeds", "dev BLEU", "test BLEU", "gain", "minutes")
    return (
        table(columns, rows)
        + f"\nMeans and standard deviations of the seeds; BLEU `{signature}`. The minutes are the "
        "processor time of one training, without pre-training.\n\n"
        "![test BLEU by number of pairs](pictures/transfer.png)\n"
    )


def _place(pairs: int, way: str) -> tuple[int, int]:
    return pairs, list(transfer.WAYS).index(way)


def draw(curve: Curve, path: Path) -> None:
    """Draw test BLEU by the number of pairs, one line a way, with its standard deviation."""
    check_available("the curve")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for way, points in curve.items():
        pairs, values = zip(*points, strict=True)
        means = [statistics.mean(each) for each in values]
        deviations = [statistics.stdev(each) if len(each) > 1 else 0 for each in values]
        axes.errorbar(pairs, means, deviations, label=transfer.WAYS[way].title, color=COLOURS[way],
                      marker="o", capsize=3)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(list(transfer.UPDATES), [f"{pairs:,}" for pairs in transfer.UPDATES])
    axes.minorticks_off()
    axes.set_xlabel("pairs to learn from")
    axes.set_ylabel("test BLEU")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def describe_bert(run: LoadedRun, result: dict[str, Any]) -> str:
    """Return what the BERT is, and how it scored."""
    last = result["dev"][-1]
    count = sum(weight.numel() for weight in run.model.parameters())
    rows = []
    for entry in result["test"]["sets"]:
        scores = {score["name"]: score["value"] for score in entry["scores"]}
        lang = entry["name"].split("-")[-1]
        rows.append(
            (f"test 2016, {lang}", f"{scores['accuracy']:.1f} %", f"{scores['perplexity']:.1f}")
        )
    return (
        f"A BERT of {count / 1e6:.1f} million parameters ("
        f"{transfer.SHAPE['encoder_layers']} layers, width {transfer.SHAPE['d_model']}), trained "
        f"for {result['minutes']:.0f} minutes of processor time, {last['update']:,} updates, on "
        "English and German text. Masked tokens that it predicts:\n\n"
        + table(("test set", "masked accuracy", "perplexity"), rows)
    )


def describe_origin(results: Path) -> str:
    """Return the commands, commits, days and machines of all results."""
    keys = ("command", "commit", "date", "machine")
    told = [json.loads(path.read_text("utf-8")) for path in sorted(results.glob("*.json"))]
    rows = dict.fromkeys(tuple(result[key] for key in keys) for result in told)
    return table(keys, rows)


def write_page(out: Path, sentences: Path, page: Path) -> None:
    """Write the page and its pictures."""
    run = load(out / "bert", None, ("device=cpu",))
    about = json.loads((out / "results" / "bert.json").read_text("utf-8"))
    parts = [
        "# The lesson's second half: BERT\n",
        describe_bert(run, about),
        "## Masked words\n",
        describe_blanks(run),
        "## Its heads\n",
        describe_heads(run, sentences),
        "## What a translator gains\n",
        "English to German on Multi30k, test 2016. Settings were searched on val, one factor after "
        "another. Without pre-training: dropout, depth, vocabulary and learning rate, fully at "
        "2,000 pairs, in part at 5,000. With it: dropout and learning rate at 2,000 pairs, kept "
        "for more. At each size all have the same number of updates; more were not tried. The BERT "
        "knows the text of all of train on both sides, not which sentences are translations of "
        "each other. Captions of train and test describe similar pictures in similar words.\n",
        describe_transfer(out / "results", page.parent / "pictures"),
        "## How it was made\n",
        describe_origin(out / "results"),
    ]
    with write_whole(page) as file:
        file.write("\n".join(parts).encode())


def main() -> None:
    """Write the page that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("sentences", type=Path, metavar="SENTENCES")
    parser.add_argument("--page", type=Path, required=True, metavar="FILE.md")
    write_page(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
