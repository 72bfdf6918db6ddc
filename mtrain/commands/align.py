"""`mtrain align`: which words of given translations go together, line by line."""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path

from mtrain.commands.linking import Linker
from mtrain.commands.loading import load_run
from mtrain.config.schema import PairFiles
from mtrain.console import progress
from mtrain.data.folders import RunFolder
from mtrain.errors import UserError
from mtrain.evaluation.alignment import SYMMETRISATIONS, Links, format_links, symmetrise
from mtrain.text.corpora import read_pairs
from mtrain.text.lines import clean_bytes, open_stdout, read_lines, write_whole
from mtrain.text.tokenizer import TokenizerPair, available_cores

TextPair = tuple[str, str]


def align(
    run_dir: Path,
    sources: Path,
    targets: Path,
    output_path: Path | None,
    reverse_dir: Path | None,
    symmetrisation: str,
    overrides: tuple[str, ...],
    checkpoint_name: str | None,
) -> None:
    """Write the links of each pair of lines in Pharaoh's format, by the run's attention.

    With a run of the reverse direction, the links of both are made one.
    """
    if symmetrisation not in SYMMETRISATIONS:
        raise UserError(
            f"--symmetrise: there is no {symmetrisation}", f"known: {', '.join(SYMMETRISATIONS)}"
        )
    forward = _Aligner(run_dir, overrides, checkpoint_name)
    backward = _Aligner(reverse_dir, overrides, None) if reverse_dir else None
    if backward and backward.languages != forward.languages[::-1]:
        raise UserError(
            f"{reverse_dir} translates {' to '.join(backward.languages)}, which is not the reverse "
            f"of {' to '.join(forward.languages)}",
            "give as --reverse a run of the other direction",
        )
    num_lines = sum(1 for _ in read_lines(sources)) if sources.is_file() else None
    with (
        write_whole(output_path) if output_path else nullcontext(open_stdout()) as sink,
        progress("aligning", num_lines, "lines") as shown,
    ):
        for block in _blocks(sources, targets, forward.block_lines):
            links = forward.links(block)
            if backward:
                turned = backward.links([(target, source) for source, target in block])
                links = [
                    symmetrise(there, {(source, target) for target, source in back}, symmetrisation)
                    for there, back in zip(links, turned, strict=True)
                ]
            sink.writelines(format_links(line).encode() + b"\n" for line in links)
            shown.advance(len(block))
    for aligner in (forward, backward):
        if aligner:
            aligner.linker.report()


class _Aligner:
    """One run, and its way from lines to links."""

    def __init__(
        self, run_dir: Path, overrides: tuple[str, ...], checkpoint_name: str | None
    ) -> None:
        run = RunFolder.open(run_dir)
        config = run.config(overrides)
        loaded = load_run(run, config, checkpoint_name)
        self.languages = (config.data.source_lang, config.data.target_lang)
        self.block_lines = config.decoding.buffer_lines
        self.linker = Linker(loaded)
        self._tokenizers: TokenizerPair = loaded.tokenizers

    def links(self, pairs: list[TextPair]) -> list[Links]:
        """Return the links of each pair of cleaned lines."""
        sources, targets = (list(side) for side in zip(*pairs, strict=True))
        source_ids = self._tokenizers.source.encode(sources, available_cores())
        target_ids = self._tokenizers.target.encode(targets, available_cores())
        lines = [[pair] if all(pair) else [] for pair in zip(source_ids, target_ids, strict=True)]
        return list(self.linker.link(lines, pairs))


def _blocks(sources: Path, targets: Path, size: int) -> Iterator[list[TextPair]]:
    pairs = read_pairs(PairFiles(source=sources, target=targets), ("", ""))
    cleaned = ((clean_bytes(source), clean_bytes(target)) for source, target in pairs)
    while block := list(islice(cleaned, size)):
        yield block
