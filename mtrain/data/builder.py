"""Builds a data folder from corpora; memory does not grow with corpus size.

Reads the corpora three times: to filter and hash each pair, to sample kept pairs for tokenizer
training, to tokenise the kept pairs. Where held-out sets are taken from train, one pass before
these chooses them. Between these passes, files hold one byte (the verdict) and eight bytes (the
hash) per pair. Does not import torch.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrain.config.corpora import MonolingualText
from mtrain.config.data import DataConfig
from mtrain.config.run import Config
from mtrain.console import Progress, progress
from mtrain.data.dirt import Dirt
from mtrain.data.duplicates import mark_duplicates
from mtrain.data.from_train import TakenPairs, take_from_train
from mtrain.data.held_out import HeldOut, Part, look_at, warn_of_undecoded
from mtrain.data.manifest import FORMAT, watch_split
from mtrain.data.mixture import mixtures
from mtrain.data.plan import derive_seed
from mtrain.data.splits import write_held_out
from mtrain.data.train_split import Block, TrainSplit
from mtrain.data.vocabulary import TextPair, make_tokenizers
from mtrain.errors import UserError
from mtrain.text.corpora import corpus_name, read_training_pairs
from mtrain.text.filters import (
    CODES,
    KEPT,
    REASONS,
    Ledger,
    judge_texts,
    nothing_left,
    pair_hashes,
)
from mtrain.text.lines import blocks
from mtrain.text.protection import PIECES, Protection
from mtrain.text.tokenizer import MASK, SEPARATOR, TokenizerPair

BLOCK_PAIRS = 10_000


@dataclass
class _Scan:
    """Results of the first pass: a verdict for each pair, and counts."""

    verdicts: npt.NDArray[np.uint8]
    ledgers: list[Ledger]  # of pairs dropped for their text, duplicates not yet included
    source_overlap: int  # pairs with a source that a held-out set contains
    kept_overlap: int  # pairs that a held-out set contains, unless dropped
    would_drop: list[dict[str, Any]]  # by the checks that are left out


class DataBuilder:
    """Builds one data folder, step by step, in `folder`."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._text = folder / "text"
        self._protection = Protection.of(config.data.protect)
        self.held_out_parts: dict[str, list[Part]] = {}  # by set, once it is built

    def build(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Fill the folder and return its manifest; the caller writes it."""
        started, data = time.monotonic(), self._config.data
        self._text.mkdir()
        held_out = HeldOut(self._text, self._config)
        valid = held_out.write("valid", data.valid_corpora) if data.valid_corpora else []
        watch, tests = (
            {name: held_out.write(name, [corpus]) for name, corpus in sets.items()}
            for sets in (data.watch_sets, data.test_sets)
        )
        for name, corpus in data.test_sets.items():
            held_out.write_documents(name, corpus)
        taken = take_from_train(self._config, held_out)
        valid, tests = [*valid, *taken.valid], tests | taken.tests
        self.held_out_parts = {"valid": valid, **watch, **tests}
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="scan-") as scratch:
            scan = self._scan(Path(scratch), held_out, taken)
            tokenizers = make_tokenizers(
                self._config.tokenizer,
                self._own_pieces(),
                self._folder / "tokenizer",
                partial(self._sample_for_tokenizer, scan),
            ).protecting(self._protection)
            if self._config.learns_from_text:
                _ = tokenizers.source.mask_id  # refuse a vocabulary without it
            else:
                _refuse_same_prefixes(self._config, tokenizers)
            train, described = self._write_train(scan, tokenizers)
            for ledger in scan.ledgers:
                warn_of_undecoded("train", ledger)
            num_scanned = len(scan.verdicts)
            del scan.verdicts
        _refuse_empty_in_mix(data, scan.ledgers)
        return {
            "format": FORMAT,
            **inputs,
            "tokenizers": tokenizers.digest(),
            "splits": {"train": train, **self._write_held_out(valid, watch, tokenizers)},
            "valid_pairs": _num_lines(valid),
            "watch": {name: _num_lines(parts) for name, parts in watch.items()},
            "tests": {name: _num_lines(parts) for name, parts in tests.items()},
            **described,
            "read_pairs": num_scanned,
            "filtered": [ledger.as_dict() for ledger in scan.ledgers],
            "would_drop": scan.would_drop,
            "held_out": {
                name: [ledger.as_dict() for ledger in ledgers]
                for name, ledgers in held_out.ledgers.items()
            },
            "train_sources_also_in_valid_or_test": scan.source_overlap,
            "kept_pairs_also_in_valid_or_test": scan.kept_overlap,
            "seconds": round(time.monotonic() - started, 1),
        }

    def _read_train(self, shown: Progress) -> Iterator[Block]:
        """Yield all training pairs in blocks; each block comes from one corpus."""
        config = self._config
        for number, corpus in enumerate(config.data.train):
            pairs, languages = config.pairs_of(corpus), config.data.languages_of(corpus)
            for block in blocks(read_training_pairs(pairs, languages), BLOCK_PAIRS):
                yield Block(
                    number,
                    [source for (source, _), _, _ in block],
                    [target for (_, target), _, _ in block],
                    [links for _, links, _ in block],
                    [document for _, _, document in block],
                )
                shown.advance(len(block))

    def _scan(self, scratch: Path, held_out: HeldOut, taken: TakenPairs) -> _Scan:
        """Filter and hash each training pair; with `drop_duplicates`, keep the first of equals."""
        data, filters = self._config.data, self._config.data.filters
        ledgers = [Ledger(corpus_name(self._config.pairs_of(corpus))) for corpus in data.train]
        source_overlap = kept_overlap = 0
        verdict_path, hash_path = scratch / "verdicts", scratch / "hashes"
        with (
            progress("reading", unit="pairs") as shown,
            Dirt(data, scratch) as dirt,
            verdict_path.open("wb") as verdicts,
            hash_path.open("wb") as hashes,
        ):
            for block in self._read_train(shown):
                corpus = data.train[block.corpus]
                is_text = self._config.is_text(corpus)
                sources, targets, codes = judge_texts(
                    block.sources, block.targets, filters, is_text
                )
                dirt.judge(block.corpus, sources, targets, codes)
                ledger = ledgers[block.corpus]
                languages = data.languages_of(corpus)
                look_at(ledger, sources, targets, Part(ledger.corpus, languages, 0, is_text))
                leaves = taken.has_sources(sources)
                if len(data.directions) > 1:  # the other direction has it as a target
                    leaves |= taken.has_sources(targets)
                codes[(codes == KEPT) & leaves] = CODES["held_out"]
                hashed = pair_hashes(sources, targets, data.marks_of(languages))
                is_kept = codes == KEPT
                source_overlap += int((is_kept & held_out.has_sources(sources)).sum())
                is_known = is_kept & held_out.has_pairs(hashed)
                if is_text:
                    for side in (0, 1):
                        is_known |= is_kept & held_out.has_texts(sources, side)
                elif isinstance(corpus, MonolingualText):  # its other side is no human's
                    side = languages.index(corpus.lang)
                    is_known |= is_kept & held_out.has_texts((sources, targets)[side], side)
                if filters.drop_overlap:
                    codes[is_known] = CODES["overlap"]
                else:
                    kept_overlap += int(is_known.sum())
                dirt.sample(block.corpus, sources, targets, codes, hashed)
                ledger.note(codes, sources, targets, besides=KEPT)
                verdicts.write(codes.tobytes())
                hashes.write(hashed.tobytes())
        if not any(ledger.seen for ledger in ledgers):
            raise UserError("data.train: there is not one pair in the corpora")
        kept = np.memmap(verdict_path, np.uint8, "r+")
        if filters.drop_duplicates:
            mark_duplicates(np.memmap(hash_path, np.int64, "r"), kept)
        dirt.mark_near(kept)
        return _Scan(kept, ledgers, source_overlap, kept_overlap, dirt.would_drop())

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
                is_text = self._config.is_text(self._config.data.train[block.corpus])
                kept = np.flatnonzero(scan.verdicts[position : position + len(block)] == KEPT)
                position += len(block)
                if share < 1:
                    kept = kept[random.random(len(kept)) < share]
                sources, targets = self._protection.protect_pairs(*block.take(kept)).sides
                sample += zip(sources, [""] * len(kept) if is_text else targets, strict=True)
        return sample

    def _write_train(
        self, scan: _Scan, tokenizers: TokenizerPair
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tokenise the kept pairs into the store; return its manifest entry, and further ones."""
        split = TrainSplit(self._config, self._folder / "train", tokenizers, scan.ledgers)
        with progress("tokenising", len(scan.verdicts), "pairs") as shown:
            figures = split.write(self._read_train(shown), scan.verdicts)
        return figures, split.describe_chunks() | split.describe_protected()

    def _write_held_out(
        self, valid: Sequence[Part], watch: Mapping[str, Sequence[Part]], tokenizers: TokenizerPair
    ) -> dict[str, dict[str, Any]]:
        """Tokenise valid and the watch sets into stores; return their manifest entries."""
        longest = self._config.data.filters.max_tokens
        sets = {"valid": ("valid", valid, "data.valid")}
        sets |= {watch_split(name): (name, parts, f"data.watch: {name}")
                 for name, parts in watch.items()}  # fmt: skip
        written = {}
        for split, (name, parts, key) in sets.items():
            of_parts = [(part, self._tokenizers_of(part, tokenizers)) for part in parts]
            written[split] = write_held_out(
                self._text / name,
                self._folder / split,
                of_parts,
                longest,
                key,
                self._config.features is not None,
            )
        return written

    def _own_pieces(self) -> list[str]:
        """Return the pieces that the vocabulary must have.

        These are prefixes, that of masked tokens, those of protected spans, and that between the
        sentences of a document.
        """
        pieces = list(chain(*self._config.prefix_pieces))
        pieces += [MASK] if self._config.learns_from_text else []
        pieces += PIECES if self._protection else []
        return [*pieces, SEPARATOR] if self._config.data.context is not None else pieces

    def _tokenizers_of(self, part: Part, tokenizers: TokenizerPair) -> TokenizerPair:
        return tokenizers.with_prefixes(self._config.tokenizer.prefixes(part.languages))


def _refuse_same_prefixes(config: Config, tokenizers: TokenizerPair) -> None:
    """Raise UserError if the prefixes of two target languages are the same pieces."""
    languages_of: dict[Any, str] = {}
    for source_lang, target_lang in config.data.directions:
        prefixes = config.tokenizer.prefixes((source_lang, target_lang))
        pair = tokenizers.with_prefixes(prefixes)
        key = source_lang, *pair.source.prefix, None, *pair.target.prefix
        other = languages_of.setdefault(key, target_lang)
        if other != target_lang:
            raise UserError(
                f"{other} and {target_lang} have the same prefix in this vocabulary",
                f"tokenizer.symbols: [{', '.join(chain(*prefixes))}] adds one of its own",
            )


def _refuse_empty_in_mix(data: DataConfig, ledgers: Sequence[Ledger]) -> None:
    """Raise UserError now for a mix that training could not draw, with what emptied a corpus."""
    try:
        mixtures(data, [ledger.counts[REASONS[KEPT]] for ledger in ledgers])
    except UserError as error:
        dropped = [ledger.tell() for ledger in ledgers if not ledger.counts[REASONS[KEPT]]]
        raise UserError("\n".join(filter(None, (str(error.message), *dropped))),
                        error.hint) from None  # fmt: skip


def _num_lines(parts: Sequence[Part]) -> int:
    return sum(part.lines for part in parts)
