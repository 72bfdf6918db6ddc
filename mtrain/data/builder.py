"""Builds a data folder from corpora; memory does not grow with corpus size.

Reads the corpora three times: to filter and hash each pair, to sample kept pairs for tokenizer
training, to tokenise the kept pairs. Where held-out sets are taken from train, one pass before
these chooses them. The first and the last pass work on each block by itself, so that shards can
share them out: their results come from the pass, or from the files of shards. Does not import
torch.
"""

import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mtrain.config.data import DataConfig
from mtrain.config.run import Config
from mtrain.console import progress
from mtrain.data.blocks import read_blocks
from mtrain.data.held_out import Part, warn_of_undecoded
from mtrain.data.held_out_sets import HeldOutSets, hold_out
from mtrain.data.manifest import FORMAT, watch_split
from mtrain.data.mixture import mixtures
from mtrain.data.plan import derive_seed
from mtrain.data.scan import Scan, join_scan, scanned_blocks
from mtrain.data.splits import write_held_out
from mtrain.data.token_blocks import TokenBlock, token_blocks
from mtrain.data.train_split import TrainSplit
from mtrain.data.vocabulary import TextPair, make_tokenizers
from mtrain.errors import UserError
from mtrain.text.filters import KEPT, REASONS, Ledger, nothing_left
from mtrain.text.protection import PIECES, Protection
from mtrain.text.tokenizer import MASK, SEPARATOR, TokenizerPair


class DataBuilder:
    """Builds one data folder, step by step, in `folder`."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._config = config
        self._folder = folder
        self._text = folder / "text"
        self._tokenizer = folder / "tokenizer"
        self._protection = Protection.of(config.data.protect)

    def build(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], HeldOutSets]:
        """Fill the folder; return its manifest, which the caller writes, and its held-out sets."""
        started = time.monotonic()
        sets = hold_out(self._config, self._text)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="scan-") as scratch:
            scan = join_scan(self._config, Path(scratch), scanned_blocks(self._config, sets))
            tokenizers = self.make_tokenizers(scan)
            blocks = token_blocks(self._config, tokenizers, scan.verdicts)
            manifest = self._finish(inputs, sets, scan, tokenizers, blocks)
            del blocks, scan
        return manifest | {"seconds": round(time.monotonic() - started, 1)}, sets

    def join(
        self,
        inputs: dict[str, Any],
        scan: Scan,
        tokenizer: Path,
        blocks: Iterable[TokenBlock],
        seconds: float,
    ) -> tuple[dict[str, Any], HeldOutSets]:
        """Do what `build` does with what shards, in so many seconds, have made of the text."""
        started = time.monotonic()
        sets = hold_out(self._config, self._text)
        shutil.copytree(tokenizer, self._tokenizer)
        tokenizers = TokenizerPair.load(self._tokenizer).protecting(self._protection)
        manifest = self._finish(inputs, sets, scan, tokenizers, blocks)
        return manifest | {"seconds": round(seconds + time.monotonic() - started, 1)}, sets

    def make_tokenizers(self, scan: Scan) -> TokenizerPair:
        """Put the tokenizers into the folder; train them on kept pairs if none are given."""
        tokenizers = make_tokenizers(
            self._config.tokenizer,
            self._own_pieces(),
            self._tokenizer,
            partial(self._sample_for_tokenizer, scan),
        ).protecting(self._protection)
        if self._config.learns_from_text:
            _ = tokenizers.source.mask_id  # refuse a vocabulary without it
        else:
            _refuse_same_prefixes(self._config, tokenizers)
        return tokenizers

    def _finish(
        self,
        inputs: dict[str, Any],
        sets: HeldOutSets,
        scan: Scan,
        tokenizers: TokenizerPair,
        blocks: Iterable[TokenBlock],
    ) -> dict[str, Any]:
        """Write the token stores; return the manifest without its seconds."""
        split = TrainSplit(self._config, self._folder / "train", tokenizers, scan.ledgers)
        train = split.write(blocks, len(scan.verdicts))
        for ledger in scan.ledgers:
            warn_of_undecoded("train", ledger)
        _refuse_empty_in_mix(self._config.data, scan.ledgers)
        return {
            "format": FORMAT,
            **inputs,
            "tokenizers": tokenizers.digest(),
            "splits": {"train": train, **self._write_held_out(sets, tokenizers)},
            "valid_pairs": _num_lines(sets.valid),
            "watch": {name: _num_lines(parts) for name, parts in sets.watch.items()},
            "tests": {name: _num_lines(parts) for name, parts in sets.tests.items()},
            **split.describe_chunks(),
            **split.describe_protected(),
            "read_pairs": len(scan.verdicts),
            "filtered": [ledger.as_dict() for ledger in scan.ledgers],
            "would_drop": scan.would_drop,
            "held_out": {
                name: [ledger.as_dict() for ledger in ledgers]
                for name, ledgers in sets.held_out.ledgers.items()
            },
            "train_sources_also_in_valid_or_test": scan.source_overlap,
            "kept_pairs_also_in_valid_or_test": scan.kept_overlap,
        }

    def _sample_for_tokenizer(self, scan: Scan) -> list[TextPair]:
        """Return a random sample of kept pairs, about `tokenizer.train_sentences` sentences."""
        num_kept = int((scan.verdicts == KEPT).sum())
        if not num_kept:
            raise nothing_left(scan.ledgers)
        share = self._config.tokenizer.train_sentences / (2 * num_kept)
        random = np.random.default_rng(derive_seed("tokenizer sample"))
        sample: list[TextPair] = []
        with progress("sampling for the tokenizer", len(scan.verdicts), "pairs") as shown:
            for block in read_blocks(self._config, shown):
                place = block.place
                is_text = self._config.is_text(self._config.data.train[place.corpus])
                verdicts = scan.verdicts[place.start : place.start + len(block)]
                kept = np.flatnonzero(verdicts == KEPT)
                if share < 1:
                    kept = kept[random.random(len(kept)) < share]
                sources, targets = self._protection.protect_pairs(*block.take(kept)).sides
                sample += zip(sources, [""] * len(kept) if is_text else targets, strict=True)
        return sample

    def _write_held_out(
        self, sets: HeldOutSets, tokenizers: TokenizerPair
    ) -> dict[str, dict[str, Any]]:
        """Tokenise valid and the watch sets into stores; return their manifest entries."""
        longest = self._config.data.filters.max_tokens
        stores = {"valid": ("valid", sets.valid, "data.valid")}
        stores |= {watch_split(name): (name, parts, f"data.watch: {name}")
                   for name, parts in sets.watch.items()}  # fmt: skip
        written = {}
        for split, (name, parts, key) in stores.items():
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
