"""`mtrain score --alignments`: word alignments scored against gold alignments."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from mtrain.commands.score import check_in_step
from mtrain.console import warn
from mtrain.errors import UserError
from mtrain.evaluation.alignment import (
    AlignmentScore,
    Links,
    alignment_error_rate,
    format_links,
    read_alignments,
)
from mtrain.text.lines import clean_bytes, read_lines
from mtrain.text.streams import read_stdin_once

MOST_WARNINGS = 5


def answer(
    hypotheses: Path | None,
    golds: Path | None,
    gold_first_index: int,
    sources: Path | None,
    references: Sequence[Path] | None,
    others: Mapping[str, object],
    is_json: bool,
) -> str:
    """Score alignments as the command line requests; return JSON or a table.

    `others` are options, by name, that apply to scoring translations. Raises UserError for options
    that do not fit together.
    """
    refused = [name for name, value in others.items() if value is not None and value != []]
    if len(references or ()) > 1:
        refused.append("several --references")
    if refused:
        raise UserError(
            f"{', '.join(refused)} cannot be combined with --alignments and --gold-alignments",
            "score translations in a command of their own",
        )
    if hypotheses is None or golds is None or (sources is None) == bool(references):
        raise UserError(
            "--alignments and --gold-alignments go together; so do --sources and --references here",
            "mtrain score --alignments OUT.align --gold-alignments GOLD.align",
        )
    texts = (sources, references[0]) if sources and references else None
    scored = score_alignments(hypotheses, golds, gold_first_index, texts)
    return (as_json if is_json else as_text)(str(hypotheses), scored)


def score_alignments(
    hypotheses: Path,
    golds: Path,
    gold_first_index: int,
    texts: tuple[Path, Path] | None,
) -> AlignmentScore:
    """Score a file of alignments, counted from 0, against a gold file.

    `texts` are the source and target sentences, to check links against. An outside link
    raises UserError in `hypotheses`, but only warns in `golds`, which the user did not make.
    """
    read_stdin_once(hypotheses, golds, *(texts or ()))
    said, wanted = _read_sure(hypotheses), read_alignments(golds, gold_first_index)
    possible = [gold.possible for gold in wanted]
    words = {path: _count_words(path) for path in texts or ()}
    num_lines = {path: len(counts) for path, counts in words.items()}
    check_in_step({**num_lines, hypotheses: len(said)}, golds, len(wanted))
    if texts:
        sizes = list(zip(words[texts[0]], words[texts[1]], strict=True))
        first_complaint = next(_outside(hypotheses, said, sizes, 0), None)
        if first_complaint:
            raise UserError(
                first_complaint,
                "in i-j, i counts the words of --sources and j those of --references, from 0",
            )
        _warn_of_gold(list(_outside(golds, possible, sizes, gold_first_index)))
    _warn_if_from_one(hypotheses, said, "subtract 1 from every number")
    if gold_first_index == 0:
        _warn_if_from_one(golds, possible, "say --gold-first-index 1")
    return alignment_error_rate(said, wanted)


def as_json(name: str, scored: AlignmentScore) -> str:
    """Return the scores as one JSON object."""
    return json.dumps({"name": name, **asdict(scored)}, indent=1, ensure_ascii=False)


def as_text(name: str, scored: AlignmentScore) -> str:
    """Return the scores as a table."""
    return "\n".join(
        (
            f"{name}, {scored.sentences:,} sentences",
            f"  AER       {scored.aer:.4f}",
            f"  precision {scored.precision:.4f}   {scored.links_possible:,} of {scored.links:,} "
            "links are possible",
            f"  recall    {scored.recall:.4f}   {scored.links_sure:,} of {scored.sure_links:,} "
            "sure links are found",
        )
    )


def _read_sure(path: Path) -> list[Links]:
    alignments = read_alignments(path)
    for number, links in enumerate(alignments, start=1):
        if links.possible != links.sure:
            link = format_links(links.possible - links.sure).partition(" ")[0]
            raise UserError(
                f"{path}:{number}: {link.replace('-', 'p')} is a possible link, as gold files have",
                "alignments to be scored have sure ones alone: 0-0 1-2",
            )
    return [links.sure for links in alignments]


def _count_words(path: Path) -> list[int]:
    return [len(clean_bytes(line).split()) for line in read_lines(path)]


def _outside(
    path: Path, alignments: Sequence[Links], sizes: Sequence[tuple[int, int]], first_index: int
) -> Iterator[str]:
    """Yield a message for each link outside its sentence pair, numbered as in the file."""
    pairs = zip(alignments, sizes, strict=True)
    for number, (links, (num_source, num_target)) in enumerate(pairs, start=1):
        for source, target in sorted(links):
            if source >= num_source or target >= num_target:
                link = format_links({(source + first_index, target + first_index)})
                yield (
                    f"{path}:{number}: the link {link} points outside its sentence pair, which "
                    f"has {num_source} and {num_target} words"
                )


def _warn_of_gold(complaints: Sequence[str]) -> None:
    for complaint in complaints[:MOST_WARNINGS]:
        warn(f"{complaint}; it counts as it stands")
    if len(complaints) > MOST_WARNINGS:
        num_left = len(complaints) - MOST_WARNINGS
        warn(f"{num_left} more such links; do the words of --sources come first in each?")


def _warn_if_from_one(path: Path, alignments: Sequence[Links], remedy: str) -> None:
    if any(alignments) and all(min(link) > 0 for links in alignments for link in links):
        warn(f"{path}: no link has a word 0; if this file counts from 1, {remedy}")
