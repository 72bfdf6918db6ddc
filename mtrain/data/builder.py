"""Builds a data folder from corpora; memory does not grow with corpus size.

Reads the corpora three times: to filter and hash each pair, to sample kept pairs for tokenizer
training, to tokenise the kept pairs. Between these passes, files hold one byte (the verdict) and
eight bytes (the hash) per pair. Does not import torch.
"""

import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrain.config.run import Config
from mtrain.config.tokenizer import SidePaths
from mtrain.console import Progress, progress
from mtrain.data.duplicates import mark_duplicates
from mtrain.data.held_out import HeldOut, look_at, warn_of_undecoded
from mtrain.data.identity import input_contents
from mtrain.data.manifest import FORMAT, data_settings, watch_split
from mtrain.data.plan import derive_seed
from mtrain.data.splits import describe_split, encode, write_held_out
from mtrain.data.store import LINKS, StoreWriter, translation_columns
from mtrain.data.vocabulary import TextPair, make_tokenizers
from mtrain.errors import UserError
from mtrain.text.checks import check_readable
from mtrain.text.corpora import corpus_name, read_linked_pairs
from mtrain.text.encoding import refuse_pointer
from mtrain.text.filters import (
    CODES,
    KEPT,
    Ledger,
    judge_lengths,
    judge_texts,
    nothing_left,
    pair_hashes,
)
from mtrain.text.lines import blocks, clean_pairs
from mtrain.text.links import Link, LinkMapper
from mtrain.text.tokenizer import Tokenizer, TokenizerPair
from mtrain.text.tokenizer_model import append_symbols

BLOCK_PAIRS = 10_000


def describe_inputs(config: Config) -> dict[str, Any]:
    """Return what determines a data folder's content: settings and the digest of every input.

    Raises one `UserError` that lists all missing or unusable files.
    """
    corpora = config.data.corpora
    missing = [message for corpus in corpora for message in check_readable(corpus)]
    paths = config.tokenizer.path
    given = [paths.source, paths.target] if isinstance(paths, SidePaths) else [paths]
    missing += [f"{path}: there is no such SentencePiece model" for path in given
                if path is not None and not path.is_file()]  # fmt: skip
    if missing:
        raise UserError("\n".join(dict.fromkeys(missing)))
    absent = {prefix for prefix in config.tokenizer.prefixes if prefix}
    if given == [None] and not absent <= set(config.tokenizer.symbols):
        raise UserError(
            "tokenizer: a new vocabulary has the pieces source_prefix and target_prefix only if "
            "`symbols` names them",
            f"symbols: [{', '.join(sorted(absent))}]",
        )
    for path in given:
        if path is not None:
            refuse_pointer(path)
            Tokenizer(path)  # load it now: a later error would name the copy
            append_symbols(path, config.tokenizer.symbols)
    return {
        "settings": data_settings(config),
        **input_contents(config, corpora),
    }


@dataclass(frozen=True)
class _Block:
    """Raw pairs of one corpus."""

    corpus: int  # its index in data.train
    sources: Sequence[bytes]
    targets: Sequence[bytes]
    links: Sequence[list[Link] | None]  # word links of each pair

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, rows: npt.NDArray[np.int64]) -> tuple[list[str], list[str]]:
        """Return the sources and the targets of the pairs `rows`, cleaned."""
        sides = ([side[row] for row in rows.tolist()] for side in (self.sources, self.targets))
        return clean_pairs(*sides)


@dataclass
class _Scan:
    """Results of the first pass: a verdict for each pair, and counts."""

    verdicts: npt.NDArray[np.uint8]
    ledgers: list[Ledger]  # of pairs dropped for their text, duplicates not yet included
    source_overlap: int  # pairs with a source that a held-out set contains
    kept_overlap: int  # pairs that a held-out set contains, unless dropped


class DataBuilder:
    """Builds one data folder, step by step, in `folder`."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._config = config
        self._languages = (config.data.source_lang, config.data.target_lang)
        self._folder = folder
        self._text = folder / "text"

    def build(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Fill the folder and return its manifest; the caller writes it."""
        started, data = time.monotonic(), self._config.data
        self._text.mkdir()
        held_out = HeldOut(self._text, self._languages)
        num_valid = held_out.write("valid", data.valid)
        watch, tests = (
            {name: held_out.write(name, [corpus]) for name, corpus in sets.items()}
            for sets in (data.watch_sets, data.test_sets)
        )
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="scan-") as scratch:
            scan = self._scan(Path(scratch), held_out)
            tokenizers = make_tokenizers(
                self._config.tokenizer,
                self._folder / "tokenizer",
                partial(self._sample_for_tokenizer, scan),
            )
            train = self._write_train(scan, tokenizers)
            for ledger in scan.ledgers:
                warn_of_undecoded("train", ledger)
            num_scanned = len(scan.verdicts)
            del scan.verdicts
        return {
            "format": FORMAT,
            **inputs,
            "tokenizers": tokenizers.digest(),
            "splits": {"train": train, **self._write_held_out(watch, tokenizers)},
            "valid_pairs": num_valid,
            "watch": watch,
            "tests": tests,
            "read_pairs": num_scanned,
            "filtered": [ledger.as_dict() for ledger in scan.ledgers],
            "held_out": {
                name: [ledger.as_dict() for ledger in ledgers]
                for name, ledgers in held_out.ledgers.items()
            },
            "train_sources_also_in_valid_or_test": scan.source_overlap,
            "kept_pairs_also_in_valid_or_test": scan.kept_overlap,
            "seconds": round(time.monotonic() - started, 1),
        }

    def _read_train(self, shown: Progress) -> Iterator[_Block]:
        """Yield all training pairs in blocks; each block comes from one corpus."""
        for number, corpus in enumerate(self._config.data.train):
            for block in blocks(read_linked_pairs(corpus, self._languages), BLOCK_PAIRS):
                yield _Block(
                    number,
                    [source for (source, _), _ in block],
                    [target for (_, target), _ in block],
                    [links for _, links in block],
                )
                shown.advance(len(block))

    def _scan(self, scratch: Path, held_out: HeldOut) -> _Scan:
        """Filter and hash each training pair; with `drop_duplicates`, keep the first of equals."""
        filters = self._config.data.filters
        ledgers = [Ledger(corpus_name(corpus)) for corpus in self._config.data.train]
        source_overlap = kept_overlap = 0
        verdict_path, hash_path = scratch / "verdicts", scratch / "hashes"
        with (
            progress("reading", unit="pairs") as shown,
            verdict_path.open("wb") as verdicts,
            hash_path.open("wb") as hashes,
        ):
            for block in self._read_train(shown):
                sources, targets, codes = judge_texts(block.sources, block.targets, filters)
                ledger = ledgers[block.corpus]
                look_at(ledger, sources, targets, self._languages)
                hashed = pair_hashes(sources, targets)
                is_kept = codes == KEPT
                source_overlap += int((is_kept & held_out.has_sources(sources)).sum())
                is_known = is_kept & held_out.has_pairs(hashed)
                if filters.drop_overlap:
                    codes[is_known] = CODES["overlap"]
                else:
                    kept_overlap += int(is_known.sum())
                ledger.note(codes, sources, targets, besides=KEPT)
                verdicts.write(codes.tobytes())
                hashes.write(hashed.tobytes())
        if not any(ledger.seen for ledger in ledgers):
            raise UserError("data.train: there is not one pair in the corpora")
        kept = np.memmap(verdict_path, np.uint8, "r+")
        if filters.drop_duplicates:
            mark_duplicates(np.memmap(hash_path, np.int64, "r"), kept)
        return _Scan(kept, ledgers, source_overlap, kept_overlap)

    def _sample_for_tokenizer(self, scan: _Scan) -> list[TextPair]:
        """Return a random sample of kept pairs, about `tokenizer.train_sentences` sentences."""
        num_kept = int((scan.verdicts == KEPT).sum())
        if not num_kept:
            raise nothing_left(scan.ledgers)
        share = self._config.tokenizer.train_sentences / (2 * num_kept)
        random = np.random.default_rng(derive_seed("tokenizer sample"))
        sample: list[TextPair] = []
        position = 0
        with progress("sampling for the tokenizer", len(scan.verdicts), "pairs") as shown:
            for block in self._read_train(shown):
                kept = np.flatnonzero(scan.verdicts[position : position + len(block)] == KEPT)
                position += len(block)
                if share < 1:
                    kept = kept[random.random(len(kept)) < share]
                sample += zip(*block.take(kept), strict=True)
        return sample

    def _write_train(self, scan: _Scan, tokenizers: TokenizerPair) -> dict[str, Any]:
        """Tokenise the kept pairs into the store; return its manifest entry."""
        filters = self._config.data.filters
        has_links, mapper = self._config.data.has_alignments, LinkMapper(tokenizers)
        columns = translation_columns(tokenizers.vocab_size, has_links)
        position = 0
        with (
            progress("tokenising", len(scan.verdicts), "pairs") as shown,
            StoreWriter(self._folder / "train", columns) as writer,
        ):
            for block in self._read_train(shown):
                codes = scan.verdicts[position : position + len(block)]
                if len(codes) < len(block):
                    raise UserError("data.train: a file grew while it was read; run it again")
                position += len(block)
                ledger = scan.ledgers[block.corpus]
                is_duplicate = codes == CODES["duplicate"]
                ledger.note(codes[is_duplicate], *block.take(np.flatnonzero(is_duplicate)))
                kept = np.flatnonzero(codes == KEPT)
                sources, targets = block.take(kept)
                source_ids, target_ids = encode((sources, targets), tokenizers)
                codes = judge_lengths(_lengths(source_ids), _lengths(target_ids), filters)
                ledger.note(codes, sources, targets)
                chosen = np.flatnonzero(codes == KEPT).tolist()
                links = [
                    list(chain.from_iterable(
                        mapper.map(block.links[kept[row]], (sources[row], targets[row]),
                                   (source_ids[row], target_ids[row]))))
                    for row in chosen
                ] if has_links else []  # fmt: skip
                ids = {"source": source_ids, "target": target_ids}
                rows = {side: [theirs[row] for row in chosen] for side, theirs in ids.items()}
                writer.append(rows | ({LINKS: links} if has_links else {}))
        if position < len(scan.verdicts):
            raise UserError("data.train: a file shrank while it was read; run it again")
        if not writer.num_pairs:
            raise nothing_left(scan.ledgers)
        figures = describe_split(self._folder / "train", writer, tokenizers)
        if has_links:
            figures[LINKS] = {"count": writer.counts()[LINKS] // 2, **mapper.counts()}
        return figures

    def _write_held_out(
        self, watch: Iterable[str], tokenizers: TokenizerPair
    ) -> dict[str, dict[str, Any]]:
        """Tokenise valid and the watch sets into stores; return their manifest entries."""
        longest = self._config.data.filters.max_tokens
        sets = {"valid": ("valid", "data.valid")}
        sets |= {watch_split(name): (name, f"data.watch: {name}") for name in watch}
        return {
            split: write_held_out(self._text / name, self._folder / split, tokenizers, longest, key)
            for split, (name, key) in sets.items()
        }


def _lengths(ids: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.fromiter(map(len, ids), np.int64, len(ids))
