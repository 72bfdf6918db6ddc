"""`mtrain align`: word alignments of given translations, line by line."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from mtrain.config import Config
from mtrain.config.corpora import PairFiles
from mtrain.console import progress
from mtrain.data.folders import OpenedRun, RunFolder
from mtrain.errors import UserError
from mtrain.evaluation.alignment import SYMMETRISATIONS, Links, format_links, symmetrise
from mtrain.inference.load import load_run
from mtrain.text.corpora import read_pairs
from mtrain.text.lines import (
    blocks,
    clean_pairs,
    count_invalid,
    refuse_early,
    warn_of_invalid,
)
from mtrain.text.streams import open_output, read_stdin_once


def align(
    opened: OpenedRun,
    sources: Path,
    targets: Path,
    output_path: Path | None,
    reverse: OpenedRun | None,
    symmetrisation: str,
    checkpoint_name: str | None,
) -> None:
    """Write the word alignment of each pair of lines, from attention, in Pharaoh format.

    With a run of the `reverse` direction, symmetrise the links of both.
    """
    if symmetrisation not in SYMMETRISATIONS:
        raise UserError(
            f"--symmetrise: there is no {symmetrisation}", f"known: {', '.join(SYMMETRISATIONS)}"
        )
    read_stdin_once(sources, targets)
    refuse_early(sources, targets)
    with open_output(output_path) as sink:
        _align(opened, sources, targets, sink, reverse, symmetrisation, checkpoint_name)


def _align(
    opened: OpenedRun,
    sources: Path,
    targets: Path,
    sink: BinaryIO,
    reverse: OpenedRun | None,
    symmetrisation: str,
    checkpoint_name: str | None,
) -> None:
    forward = _Aligner(*opened, checkpoint_name)
    backward = _Aligner(*reverse, None) if reverse else None
    if backward and backward.languages != forward.languages[::-1]:
        raise UserError(
            f"{backward.path} translates {' to '.join(backward.languages)}, which is not the "
            f"reverse of {' to '.join(forward.languages)}",
            "give as --reverse a run of the other direction",
        )
    num_invalid = [0, 0]
    with progress("aligning") as shown:
        pairs = read_pairs(PairFiles(source=sources, target=targets), ("", ""))
        for block in blocks(pairs, opened[1].decoding.buffer_lines):
            sides = list(zip(*block, strict=True))
            texts = clean_pairs(*sides)
            for side, lines in enumerate(sides):
                num_invalid[side] += count_invalid(lines)
            links = forward.links(*texts)
            if backward:
                turned = backward.links(*texts[::-1])
                links = [
                    symmetrise(there, {(source, target) for target, source in back}, symmetrisation)
                    for there, back in zip(links, turned, strict=True)
                ]
            sink.writelines(format_links(line).encode() + b"\n" for line in links)
            shown.advance(len(block))
    for path, count in zip((sources, targets), num_invalid, strict=True):
        warn_of_invalid(path, count)
    for aligner in (forward, backward):
        if aligner:
            aligner.linker.report()


class _Aligner:
    """Aligns lines with one run."""

    def __init__(self, run: RunFolder, config: Config, checkpoint_name: str | None) -> None:
        self.path = run.path
        self.languages = config.languages
        self._loaded = load_run(run, config, checkpoint_name)
        self.linker = self._loaded.linker()

    def links(self, sources: Sequence[str], targets: Sequence[str]) -> list[Links]:
        """Return the links of each pair of cleaned lines."""
        lines = self._loaded.encode_pairs(sources, targets)
        return list(self.linker.link(lines, list(zip(sources, targets, strict=True))))
