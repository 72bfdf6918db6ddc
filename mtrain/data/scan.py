"""The first pass over the training pairs: which of them the filters keep.

Each block is judged by itself; then the blocks are joined in order, and duplicates found among all
pairs. Files hold one byte (the verdict) and eight bytes a hash per pair. Does not import torch.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrain.config.corpora import MonolingualText
from mtrain.config.run import Config
from mtrain.console import progress
from mtrain.data.blocks import Block, Owns, Place, own_all, read_blocks
from mtrain.data.dirt import NEAR, Dirt, Hashes
from mtrain.data.duplicates import mark_duplicates
from mtrain.data.held_out import Part, look_at
from mtrain.data.held_out_sets import HeldOutSets
from mtrain.errors import UserError
from mtrain.text.corpora import corpus_name
from mtrain.text.filters import CODES, KEPT, Codes, Ledger, judge_texts, pair_hashes

NAME, VERDICTS = "scan.json", "verdicts"  # the files of a scan


@dataclass(frozen=True)
class ScannedBlock:
    """What the scan says of a block."""

    place: Place
    verdicts: Codes  # duplicates not yet marked
    hashes: Hashes
    near_hashes: Hashes | None  # only with the check near_duplicates
    ledger: Ledger  # of pairs dropped for their text
    source_overlap: int  # pairs with a source that a held-out set contains
    kept_overlap: int  # pairs that a held-out set contains, unless dropped
    would_drop: dict[str, Any]  # by the checks that are left out; empty but for first blocks


@dataclass
class Scan:
    """What the scan says of all pairs: a verdict for each, and counts."""

    verdicts: npt.NDArray[np.uint8]
    ledgers: list[Ledger]  # of each corpus; pairs dropped for their text, without duplicates
    source_overlap: int
    kept_overlap: int
    would_drop: list[dict[str, Any]]  # of each corpus

    def save(self, folder: Path) -> None:
        """Write the counts beside the verdicts, which are there already."""
        told = {name: getattr(self, name) for name in ("source_overlap", "kept_overlap",
                                                       "would_drop")}  # fmt: skip
        ledgers = [ledger.as_dict() for ledger in self.ledgers]
        (folder / NAME).write_text(json.dumps({"ledgers": ledgers, **told}))

    @staticmethod
    def load(folder: Path) -> "Scan":
        """Return the scan that a folder holds."""
        told = json.loads((folder / NAME).read_text())
        ledgers = list(map(Ledger.from_dict, told.pop("ledgers")))
        return Scan(np.memmap(folder / VERDICTS, np.uint8, "r"), ledgers, **told)


class Scanner:
    """Filters and hashes training pairs; each block depends on nothing but its text."""

    def __init__(self, config: Config, sets: HeldOutSets) -> None:
        self._config = config
        self._held_out = sets.held_out
        self._taken = sets.taken
        self._dirt = Dirt(config.data)
        self._names = [ledger.corpus for ledger in new_ledgers(config)]

    def scan(self, block: Block) -> ScannedBlock:
        """Judge each pair of a block by its text and by the held-out sets."""
        data, number = self._config.data, block.place.corpus
        corpus = data.train[number]
        is_text, languages = self._config.is_text(corpus), data.languages_of(corpus)
        ledger = Ledger(self._names[number])
        sources, targets, codes = judge_texts(block.sources, block.targets, data.filters, is_text)
        near_hashes = self._dirt.judge(number, sources, targets, codes)
        part = Part(ledger.corpus, languages, 0, is_text)
        look_at(ledger, sources, targets, part, block.place.is_first)
        leaves = self._taken.has_sources(sources)
        if len(data.directions) > 1:  # the other direction has it as a target
            leaves |= self._taken.has_sources(targets)
        codes[(codes == KEPT) & leaves] = CODES["held_out"]
        hashes = pair_hashes(sources, targets, data.marks_of(languages))
        is_kept = codes == KEPT
        source_overlap = int((is_kept & self._held_out.has_sources(sources)).sum())
        is_known = is_kept & self._held_out.has_pairs(hashes)
        if is_text:
            for side in (0, 1):
                is_known |= is_kept & self._held_out.has_texts(sources, side)
        elif isinstance(corpus, MonolingualText):  # its other side is no human's
            side = languages.index(corpus.lang)
            is_known |= is_kept & self._held_out.has_texts((sources, targets)[side], side)
        if data.filters.drop_overlap:
            codes[is_known] = CODES["overlap"]
        kept_overlap = 0 if data.filters.drop_overlap else int(is_known.sum())
        would_drop = (self._dirt.would_drop(number, sources, targets, codes, hashes)
                      if block.place.is_first else {})  # fmt: skip
        ledger.note(codes, sources, targets, besides=KEPT)
        return ScannedBlock(block.place, codes, hashes, near_hashes, ledger, source_overlap,
                            kept_overlap, would_drop)  # fmt: skip


def scanned_blocks(
    config: Config, sets: HeldOutSets, owns: Owns = own_all
) -> Iterator[ScannedBlock]:
    """Read the training pairs and yield the scan of each block that is owned."""
    scanner = Scanner(config, sets)
    with progress("reading", unit="pairs") as shown:
        yield from map(scanner.scan, read_blocks(config, shown, owns))


def join_scan(config: Config, folder: Path, blocks: Iterable[ScannedBlock]) -> Scan:
    """Join all blocks, which come in order, and mark duplicates; the verdicts are in `folder`.

    Raises UserError if there is no pair.
    """
    filters = config.data.filters
    scan = Scan(np.zeros(0, np.uint8), new_ledgers(config), 0, 0, [{} for _ in config.data.train])
    paths = [folder / name for name in (VERDICTS, "hashes", "near-hashes")]
    with ExitStack() as opened:
        files = [opened.enter_context(path.open("wb")) for path in paths]
        for block in blocks:
            scan.ledgers[block.place.corpus].add(block.ledger)
            scan.source_overlap += block.source_overlap
            scan.kept_overlap += block.kept_overlap
            scan.would_drop[block.place.corpus] |= block.would_drop
            for file, column in zip(
                files, (block.verdicts, block.hashes, block.near_hashes), strict=True
            ):
                file.write(b"" if column is None else column.tobytes())
    if not any(ledger.seen for ledger in scan.ledgers):
        raise UserError("data.train: there is not one pair in the corpora")
    verdicts = np.memmap(paths[0], np.uint8, "r+")
    if filters.drop_duplicates:
        mark_duplicates(np.memmap(paths[1], np.int64, "r"), verdicts)
    if NEAR in filters.checks:
        mark_duplicates(np.memmap(paths[2], np.int64, "r"), verdicts, CODES[NEAR])
    verdicts.flush()
    for path in paths[1:]:
        path.unlink()
    scan.verdicts = verdicts
    return scan


def new_ledgers(config: Config) -> list[Ledger]:
    """Return an empty ledger for each training corpus."""
    return [Ledger(corpus_name(config.pairs_of(corpus))) for corpus in config.data.train]
