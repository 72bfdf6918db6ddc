"""Write one page from the lesson's measurements: claims, verdicts, tables and plots.

    python scripts/lesson/report.py OUT --page FILE.md

Reads OUT/results.json of run.py, and OUT/heads.json and OUT/pictures of heads.py. Every verdict
follows from the figures and the margins below.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from heads import SOUGHT, as_tables, table

from mtrain.evaluation.heatmaps import check_available
from mtrain.text.lines import write_whole

HOLDS, FAILS = "holds", "does not hold"
OPEN, UNKNOWN = "not separated by these runs", "not measured"
BLEU_MARGIN, SPEED_MARGIN, ERROR_MARGIN = 1.0, 0.1, 0.01  # BLEU; share of speed; error rate
FEWEST_SENTENCES = 30  # in a length range, for a verdict
LEAST_SHARE, LEAST_TIMES = 0.25, 2  # a found head: its share, and its ratio to the mean of all
MOST_BY_CHANCE = 0.05  # expected heads right about all pairs by chance, for a found head to count
RNN, PLAIN_RNN, TRANSFORMER = "rnn-additive", "rnn-none", "transformer-sinusoidal"
LEARNED, ROTARY, GUIDED = "transformer-learned", "transformer-rotary", "transformer-guided"
JOINED = "both directions"  # alignments joined
BY_LENGTH, BY_POSITIONS = (PLAIN_RNN, RNN, TRANSFORMER), (TRANSFORMER, LEARNED, ROTARY)
# Colours safe for colour-blind readers (Okabe and Ito), and markers for print without colour.
STYLES = {
    PLAIN_RNN: ("#000000", "o"), RNN: ("#E69F00", "s"), TRANSFORMER: ("#0072B2", "^"),
    LEARNED: ("#CC79A7", "D"), ROTARY: ("#009E73", "v"), GUIDED: ("#D55E00", "P"),
}  # fmt: skip
ALIGNMENTS_COMPARED = (
    (RNN, TRANSFORMER, "an RNN's attention aligns words better than a Transformer's"),
    (JOINED, TRANSFORMER, "two directions joined align better than one"),
    (GUIDED, TRANSFORMER, "guided attention aligns better than attention left alone"),
)
HEADING = """# The lesson's claims, measured

Small models of one family, trained on the same {train_pairs:,} English-German pairs
({train_tokens:,} target tokens), for the updates that each does in {minutes:g} idle minutes
on {machine}, threads: {threads}, precision: {precision}; tested on {test_sentences:,} sentences.
Training texts have at most {longest_training_tokens} tokens, {longest_training_words} words.
"""
RULES = f"""Each model was trained once, with one seed. A difference below {BLEU_MARGIN:g} BLEU,
{SPEED_MARGIN:.0%} of speed or {ERROR_MARGIN:.0%} error rate is *{OPEN}*. A loss below
{BLEU_MARGIN:g} BLEU counts as no loss. A head is found if its value is at least
{LEAST_SHARE:.0%} and {LEAST_TIMES} times the mean of all heads. Length ranges with fewer than
{FEWEST_SENTENCES} sentences are shown but not judged.
"""
WHY_FASTER = """The lesson's reason: each step of an RNN waits for the step before it, so an RNN
computes many small matrix products one after another. A Transformer computes a few large ones,
over all tokens of its sentences at once.
"""
ENDING = """## How it was made

`{command}`, commit {commit}, {date}. Near-duplicates: {near_duplicates}.
Signatures: {signatures}.
"""

Members = dict[str, Any]  # `members` in results.json


class Claim(NamedTuple):
    """A claim of the lesson, its measurement, and the verdict."""

    says: str
    measured: str
    verdict: str


def judge(gain: float, margin: float = BLEU_MARGIN) -> str:
    """Return the verdict on a gain that the lesson claims."""
    return OPEN if abs(gain) < margin else HOLDS if gain > 0 else FAILS


def judge_no_loss(change: float) -> str:
    """Return the verdict on a claim that BLEU does not fall."""
    return HOLDS if change > -BLEU_MARGIN else FAILS


def length_claims(members: Members) -> Iterator[Claim]:
    """Compare the RNN with and without attention, overall and by the length of the source."""
    attending, plain = members[RNN], members[PLAIN_RNN]
    bleu, plain_bleu = attending["scores"]["BLEU"], plain["scores"]["BLEU"]
    measured = f"{bleu:.1f} BLEU with it, {plain_bleu:.1f} without"
    yield Claim("attention makes an RNN translate better", measured, judge(bleu - plain_bleu))
    ranges = [pair for pair in zip(attending["by_length"], plain["by_length"], strict=True)
              if pair[0]["sentences"] >= FEWEST_SENTENCES]  # fmt: skip
    if len(ranges) < 2:
        reason = f"fewer than two length ranges have {FEWEST_SENTENCES} sentences"
        yield Claim("attention keeps quality on long sources", reason, UNKNOWN)
        return
    first, last = ranges[0], ranges[-1]
    short, long = spell_range(first[0]), spell_range(last[0])
    start, plain_start, end, plain_end = (bucket["bleu"] for bucket in (*first, *last))

    def course(start: float, end: float) -> str:
        kept = f", {end / start:.0%} of that" if start else ""
        return f"{start:.1f} BLEU at {short} words, {end:.1f} at {long}{kept}"

    says = "without attention, quality falls with the length of the source"
    yield Claim(says, course(plain_start, plain_end), judge(plain_start - plain_end))
    yield Claim("with attention, it stays level", course(start, end), judge_no_loss(end - start))
    gains = start - plain_start, end - plain_end
    measured = f"{gains[0]:+.1f} BLEU at {short} words, {gains[1]:+.1f} at {long}"
    says = "attention helps the more, the longer the source"
    yield Claim(says, measured, judge(gains[1] - gains[0]))


def speed_claims(members: Members) -> Iterator[Claim]:
    """Compare the Transformer's training speed with that of each RNN."""
    speed, size = (members[TRANSFORMER][key] for key in ("tokens_per_second", "parameters"))
    for name, kind in ((RNN, "with"), (PLAIN_RNN, "without")):
        other, other_size = (members[name][key] for key in ("tokens_per_second", "parameters"))
        verdict = judge(speed / other - 1, SPEED_MARGIN)
        if abs(size / other_size - 1) > SPEED_MARGIN:
            verdict += f", at {size / other_size:.2f} times the parameters"
        says = f"a Transformer trains faster than an RNN {kind} attention at equal size"
        measured = (
            f"{speed:,.0f} target tokens a second with {size / 1e6:.2f} M parameters, the RNN "
            f"{other:,.0f} with {other_size / 1e6:.2f} M: {speed / other:.2f} times as fast"
        )
        yield Claim(says, measured, verdict)


def position_claims(members: Members, longest: int) -> Iterator[Claim]:
    """Compare position encodings, overall and beyond the longest training source."""
    kinds = {TRANSFORMER: "sinusoidal", ROTARY: "rotary", LEARNED: "learned"}
    bleu = {name: members[name]["scores"]["BLEU"] for name in kinds}
    measured = ", ".join(f"{bleu[name]:.1f} BLEU {kind}" for name, kind in kinds.items())
    same = judge_no_loss(-abs(bleu[LEARNED] - bleu[TRANSFORMER]))
    yield Claim("learned positions are as good as sinusoidal ones", measured, same)
    within, beyond = (
        {name: mean_bleu(members[name]["by_length"], longest, side) for name in kinds}
        for side in (False, True)
    )
    ranges = members[LEARNED]["by_length"]
    count = sum(one["sentences"] for one in ranges if one["shortest"] > longest)
    for name in (TRANSFORMER, ROTARY):
        says = f"beyond training lengths, {kinds[name]} positions gain on learned ones"
        measured = f"{count} test sentences are in ranges beyond {longest} words"
        verdict = UNKNOWN
        if count >= FEWEST_SENTENCES:
            measured += (
                f": {beyond[name]:.1f} against {beyond[LEARNED]:.1f} BLEU; the others: "
                f"{within[name]:.1f} against {within[LEARNED]:.1f} (means over the ranges)"
            )
            verdict = judge(beyond[name] - beyond[LEARNED] - within[name] + within[LEARNED])
        yield Claim(says, measured, verdict)


def mean_bleu(buckets: Sequence[dict[str, Any]], longest: int, is_beyond: bool) -> float:
    """Return the mean BLEU of the ranges beyond a length or of the others, sentence-weighted."""
    chosen = [bucket for bucket in buckets if (bucket["shortest"] > longest) == is_beyond]
    count: int = sum(bucket["sentences"] for bucket in chosen)
    return sum(float(bucket["bleu"] * bucket["sentences"]) for bucket in chosen) / max(1, count)


def head_claims(heads: dict[str, Any]) -> Iterator[Claim]:
    """Judge, for each function that the lesson names, whether a head has it."""
    for kind, measure, unit, says in SOUGHT:
        found = heads["kinds"][kind][measure]
        measured = (
            f"best head: layer {found['layer']}, head {found['head']}, with {found['best']:.0%} "
            f"{unit}; mean of all heads {found['mean']:.0%}"
        )
        is_found = found["best"] >= max(LEAST_SHARE, LEAST_TIMES * found["mean"])
        yield Claim(says, measured, HOLDS if is_found else FAILS)
    it = heads["it"]
    right, expected = it["right_in_all"], it["expected_right_in_all"]
    measured = (
        f"{right} of {it['heads']} heads prefer the right noun in both sentences of all "
        f"{len(it['pairs'])} pairs ({expected:.2g} expected by chance); the best, layer "
        f"{it['layer']}, head {it['head']}, does so in {it['right_of_best']} of them "
        f"({it['expected_as_good_as_best']:.2g} heads expected by chance)"
    )
    verdict = (OPEN if expected > MOST_BY_CHANCE else HOLDS) if right else f"{FAILS}: none found"
    yield Claim("an encoder head resolves `it`", measured, verdict)


def alignment_claims(alignment: dict[str, Any], members: Members) -> Iterator[Claim]:
    """Compare alignment error rates, and the BLEU with and without guided alignment."""
    for better, worse, says in ALIGNMENTS_COMPARED:
        if {better, worse} <= alignment.keys():
            errors = alignment[better]["aer"], alignment[worse]["aer"]
            measured = f"an error rate of {errors[0]:.1%} against {errors[1]:.1%}"
            yield Claim(says, measured, judge(errors[1] - errors[0], ERROR_MARGIN))
    guided, free = (members[name]["scores"]["BLEU"] for name in (GUIDED, TRANSFORMER))
    measured = f"{guided:.1f} BLEU with guided alignment, {free:.1f} without"
    yield Claim("guided alignment costs no quality", measured, judge_no_loss(guided - free))


def spell_range(bucket: dict[str, Any]) -> str:
    """Return the label of a range of source lengths in words."""
    if bucket["longest"] is None:
        return f"over {bucket['shortest'] - 1}"
    return f"{max(1, bucket['shortest'])}–{bucket['longest']}"


def write_plot(
    path: Path,
    members: Members,
    series: Mapping[str, Sequence[tuple[float, float]]],
    axis_names: tuple[str, str],
    ticks: Sequence[str] = (),
    num_within: int = 0,  # ticks within training lengths; the rest is shaded
) -> None:
    """Draw a line or a point per member, with its title beside its last point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4), dpi=100)
    axes = figure.subplots()
    for name, points in series.items():
        colour, marker = STYLES[name]
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=5)
    axes.set(xlabel=axis_names[0], ylabel=axis_names[1])
    axes.set(xlim=(0, None), ylim=(0, 1.05 * axes.dataLim.y1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    if ticks:
        axes.set(xticks=range(len(ticks)), xticklabels=ticks, xlim=(-0.5, len(ticks) - 0.5))
    (left, right), top = axes.get_xlim(), axes.get_ylim()[1]
    if num_within < len(ticks):
        axes.axvspan(num_within - 0.5, len(ticks) - 0.5, color="0.9", zorder=0)
        axes.text(num_within - 0.45, top, "longer than\nin training", va="top", fontsize=8)
    ends = sorted((points[-1][1], points[-1][0], name) for name, points in series.items())[::-1]
    height = 2 * top
    for y, x, name in ends:
        height = min(y, height - 0.06 * top)
        line = {"arrowstyle": "-", "color": STYLES[name][0], "relpos": (0, 0.5)}
        place = right + 0.04 * (right - left), height
        axes.annotate(members[name]["title"], (x, y), place, va="center", fontsize=9,
                      arrowprops=line, annotation_clip=False)  # fmt: skip
    with write_whole(path) as file:
        figure.savefig(file, format="png", bbox_inches="tight")


def draw_plots(folder: Path, members: Members, longest: int) -> None:
    """Draw the plots of the page."""
    buckets = members[TRANSFORMER]["by_length"]
    ticks = [spell_range(bucket) for bucket in buckets]
    num_within = sum(bucket["shortest"] <= longest for bucket in buckets)
    for file_name, names in (("bleu-by-length.png", BY_LENGTH), ("positions.png", BY_POSITIONS)):
        series = {name: [(place, bucket["bleu"]) for place, bucket
                         in enumerate(members[name]["by_length"])] for name in names}  # fmt: skip
        axes = "words in the source", "BLEU"
        write_plot(folder / file_name, members, series, axes, ticks, num_within)
    speeds = {name: [(member["parameters"] / 1e6, member["tokens_per_second"])]
              for name, member in members.items()}  # fmt: skip
    write_plot(folder / "speed.png", members, speeds, ("million parameters", "tokens a second"))
    curves = {name: member["curve"] for name, member in members.items()}
    write_plot(folder / "curves.png", members, curves, ("minutes of training", "dev BLEU"))


def members_table(members: Members) -> str:
    """Return the table of members: size, training, scores."""
    columns = ("model", "parameters", "updates", "target tokens", "tokens a second", "dev BLEU",
               "BLEU", "chrF2", "TER")  # fmt: skip
    rows = []
    for member in members.values():
        counts = [member[key] for key in ("updates", "target_tokens", "tokens_per_second")]
        scores = [member["dev_bleu"], *(member["scores"][name] for name in columns[-3:])]
        figures = [f"{count:,.0f}" for count in counts] + [f"{score:.1f}" for score in scores]
        rows.append([member["title"], f"{member['parameters'] / 1e6:.2f} M", *figures])
    return table(columns, rows) + "\nBLEU, chrF2 and TER are of the test set.\n"


def length_table(members: Members, names: Sequence[str], longest: int) -> str:
    """Return the table of BLEU and length ratio by source length."""
    rows = []
    for buckets in zip(*(members[name]["by_length"] for name in names), strict=True):
        first = buckets[0]
        mark = " (beyond training)" if first["shortest"] > longest else ""
        mark += " (few)" if first["sentences"] < FEWEST_SENTENCES else ""
        scores = (f"{bucket['bleu']:.1f} ({bucket['length_ratio']:.2f})" for bucket in buckets)
        rows.append((spell_range(first) + mark, str(first["sentences"]), *scores))
    columns = ("source words", "sentences", *(members[name]["title"] for name in names))
    return table(columns, rows) + "\nBLEU (hypothesis words over reference words).\n"


def picture(name: str, what: str) -> str:
    """Return the Markdown of a picture beside the page."""
    return f"![{what}](pictures/{name})\n"


def write_page(out: Path, page: Path) -> None:
    """Write the page, and the folder `pictures` beside it, from the files in OUT."""
    check_available("the page's plots")
    results, heads = (json.loads((out / f"{name}.json").read_text("utf-8"))
                      for name in ("results", "heads"))  # fmt: skip
    members = {name: results["members"][name] for name in STYLES}
    alignment, longest = results["alignment"], results["data"]["longest_training_words"]
    pictures = page.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    draw_plots(pictures, members, longest)
    if pictures.resolve() != (out / "pictures").resolve():
        for name in heads["pictures"]:
            shutil.copyfile(out / "pictures" / name, pictures / name)
    errors = table(
        ("attention of", "error rate", "precision", "recall", "links"),
        ((one["what"], *(f"{one[key]:.1%}" for key in ("aer", "precision", "recall")),
          f"{one['links']:,}") for one in alignment.values()),
    )  # fmt: skip
    sections: dict[str, tuple[Iterator[Claim], list[str]]] = {
        "What was trained": (iter(()), [
            members_table(members), picture("curves.png", "dev BLEU by minutes of training")]),
        "Attention and the length of the source": (length_claims(members), [
            picture("bleu-by-length.png", "BLEU by source length"),
            length_table(members, BY_LENGTH, longest)]),
        "Speed of training": (speed_claims(members), [
            picture("speed.png", "target tokens a second by parameters"), WHY_FASTER]),
        "Positions": (position_claims(members, longest), [
            picture("positions.png", "BLEU by source length"),
            length_table(members, BY_POSITIONS, longest)]),
        "Heads": (head_claims(heads), [
            as_tables(heads), *(f"{what}.\n\n{picture(name, what)}"
                                for name, what in heads["pictures"].items())]),
        "Alignment": (alignment_claims(alignment, members), [
            f"{errors}\nGold: {results['gold']}.\n" if alignment else "No gold was given.\n"]),
    }  # fmt: skip
    told, in_short = [], []
    for title, (claims, shown) in sections.items():
        told.append(f"## {title}\n")
        for says, measured, verdict in claims:
            in_short.append((says, verdict))
            told.append(f"- The lesson says: {says}.  \n  Measured: {measured}. **{verdict}**.\n")
        told += shown
    signatures = {f"{metric} `{signature}`" for member in members.values()
                  for metric, signature in member["signatures"].items()}  # fmt: skip
    known = {**results, **results["data"], "signatures": ", ".join(sorted(signatures))}
    summary = table(("the lesson says", "these runs"), in_short)
    with write_whole(page) as file:
        parts = [HEADING.format(**known), RULES, summary, *told, ENDING.format(**known)]
        file.write("\n".join(parts).encode())


def main() -> None:
    """Write the page that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--page", type=Path, required=True, metavar="FILE.md")
    write_page(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
