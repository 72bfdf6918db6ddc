"""Builds a data folder from corpora, in memory that does not grow with them.

The corpora are read three times: to judge each pair and hash it, to train the tokenizer on a
sample of what is kept, to tokenise what is kept. Between the readings a pair is one byte (its
verdict) and eight (its hash) in files. Nothing here knows torch.
"""

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mtrain.config.data import Corpus
from mtrain.config.run import Config
from mtrain.config.tokenizer import SidePaths
from mtrain.console import Progress, progress
from mtrain.data.duplicates import mark_duplicates
from mtrain.data.folders import DATA_FORMAT, data_settings
from mtrain.data.identity import input_contents
from mtrain.data.plan import derive_seed
from mtrain.data.store import StoreWriter
from mtrain.errors import UserError
from mtrain.text.corpora import (
    check_readable,
    corpus_name,
    read_linked_pairs,
    read_pairs,
)
from mtrain.text.filters import CODES, KEPT, Ledger, judge_lengths, judge_texts, pair_hashes
from mtrain.text.lines import clean_lines, file_digests, read_lines
from mtrain.text.links import Link, LinkMapper
from mtrain.text.tokenizer import Tokenizer, TokenizerPair, available_cores, train_tokenizer

BLOCK_PAIRS = 10_000

T = TypeVar("T")
TextPair = tuple[str, str]


def describe_inputs(config: Config) -> dict[str, Any]:
    """Return what decides a data folder's content: settings and the digest of every input.

    Raises one `UserError` for all the files that are missing.
    """
    data = config.data
    corpora = [*data.train, *data.valid, *data.test]
    missing = [message for corpus in corpora for message in check_readable(corpus)]
    paths = config.tokenizer.path
    given = [paths.source, paths.target] if isinstance(paths, SidePaths) else [paths]
    missing += [f"{path}: there is no such SentencePiece model" for path in given
                if path is not None and not path.is_file()]  # fmt: skip
    if missing:
        raise UserError("\n".join(dict.fromkeys(missing)))
    for path in given:
        if path is not None:
            Tokenizer(path)  # or it would be complained of by the name of its copy
    return {
        "settings": data_settings(config),
        **input_contents(config, corpora),
    }


@dataclass
class _HeldOut:
    """Valid and test text, and the hashes by which its copies in train are found."""

    pairs: set[int] = field(default_factory=set)
    sources: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class _Block:
    """Some pairs of one corpus, as they were read."""

    corpus: int  # its number
    sources: Sequence[bytes]
    targets: Sequence[bytes]
    links: Sequence[list[Link] | None]  # between the words of each

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, rows: npt.NDArray[np.int64]) -> tuple[list[str], list[str]]:
        """Return both sides of some pairs, cleaned."""
        sides = ([side[row] for row in rows.tolist()] for side in (self.sources, self.targets))
        sources, targets = (clean_lines(side)[0] for side in sides)
        return sources, targets


@dataclass
class _Scan:
    """What the first reading found: a verdict for each pair, and figures."""

    verdicts: npt.NDArray[np.uint8]
    source_overlap: int
    kept_overlap: int  # pairs


class DataBuilder:
    """One building of a data folder, step by step, in a folder of its own."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._config = config
        self._languages = (config.data.source_lang, config.data.target_lang)
        self._folder = folder
        self._text = folder / "text"

    def build(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Fill the folder and return its manifest, which is left to the caller to write."""
        started = time.monotonic()
        self._text.mkdir()
        held_out = _HeldOut()
        num_valid = self._write_text("valid", self._config.data.valid, held_out)
        tests = {
            corpus.name or "test": self._write_text(corpus.name or "test", [corpus], held_out)
            for corpus in self._config.data.test
        }
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="scan-") as scratch:
            scan = self._scan(Path(scratch), held_out)
            tokenizers = self._make_tokenizers(scan)
            ledgers, train = self._write_train(scan, tokenizers)
            num_scanned = len(scan.verdicts)
            del scan.verdicts
        return {
            "format": DATA_FORMAT,
            **inputs,
            "tokenizers": tokenizers.digest(),
            "splits": {"train": train, "valid": self._write_valid(tokenizers)},
            "valid_pairs": num_valid,
            "tests": tests,
            "read_pairs": num_scanned,
            "filtered": [ledger.as_dict() for ledger in ledgers],
            "train_sources_also_in_valid_or_test": scan.source_overlap,
            "kept_pairs_also_in_valid_or_test": scan.kept_overlap,
            "seconds": round(time.monotonic() - started, 1),
        }

    def _write_text(self, name: str, corpora: list[Corpus], held_out: _HeldOut) -> int:
        """Keep valid or test as it was given, a line a sentence; return the number of pairs."""
        count = 0
        paths = [self._text / f"{name}.{side}" for side in ("source", "target")]
        with paths[0].open("wb") as sources, paths[1].open("wb") as targets:
            for corpus in corpora:
                for block in blocks(read_pairs(corpus, self._languages), BLOCK_PAIRS):
                    texts = []
                    for file, raw in zip((sources, targets), zip(*block, strict=True), strict=True):
                        file.writelines(line.replace(b"\n", b" ") + b"\n" for line in raw)
                        texts.append(clean_lines(raw)[0])
                    held_out.pairs.update(pair_hashes(*texts).tolist())
                    held_out.sources.update(map(hash, texts[0]))
                    count += len(block)
        if not count:
            raise UserError(f"{name}: there is not one pair in {corpus_name(corpora[0])}")
        return count

    def _read_train(self, shown: Progress) -> Iterator[_Block]:
        """Yield all of train, some pairs of a corpus at a time."""
        for number, corpus in enumerate(self._config.data.train):
            for block in blocks(read_linked_pairs(corpus, self._languages), BLOCK_PAIRS):
                yield _Block(
                    number,
                    [source for (source, _), _ in block],
                    [target for (_, target), _ in block],
                    [links for _, links in block],
                )
                shown.advance(len(block))

    def _scan(self, scratch: Path, held_out: _HeldOut) -> _Scan:
        """Judge and hash each training pair; of equal pairs keep the first."""
        filters = self._config.data.filters
        source_overlap = kept_overlap = count = 0
        verdict_path, hash_path = scratch / "verdicts", scratch / "hashes"
        with (
            progress("reading", unit="pairs") as shown,
            verdict_path.open("wb") as verdicts,
            hash_path.open("wb") as hashes,
        ):
            for block in self._read_train(shown):
                sources, targets, codes = judge_texts(block.sources, block.targets, filters)
                hashed = pair_hashes(sources, targets)
                is_kept = codes == KEPT
                is_known = np.array([source in held_out.sources for source in map(hash, sources)])
                source_overlap += int((is_kept & is_known).sum())
                is_known = np.array([pair in held_out.pairs for pair in hashed.tolist()])
                if filters.drop_overlap:
                    codes[is_kept & is_known] = CODES["overlap"]
                else:
                    kept_overlap += int((is_kept & is_known).sum())
                verdicts.write(codes.tobytes())
                hashes.write(hashed.tobytes())
                count += len(sources)
        if not count:
            raise UserError("data.train: there is not one pair in the corpora")
        kept = np.memmap(verdict_path, np.uint8, "r+")
        if filters.drop_duplicates:
            mark_duplicates(np.memmap(hash_path, np.int64, "r"), kept)
        return _Scan(kept, source_overlap, kept_overlap)

    def _make_tokenizers(self, scan: _Scan) -> TokenizerPair:
        """Put the tokenizers into the folder: copied where given, else trained."""
        config, folder = self._config.tokenizer, self._folder / "tokenizer"
        folder.mkdir()
        if isinstance(config.path, SidePaths):
            shutil.copyfile(config.path.source, folder / "source.model")
            shutil.copyfile(config.path.target, folder / "target.model")
        elif config.path is not None:
            shutil.copyfile(config.path, folder / "shared.model")
        else:
            sample = self._sample_for_tokenizer(scan)
            if config.shared:
                train_tokenizer(chain.from_iterable(sample), config, folder / "shared.model")
            else:
                for side, sentences in zip(
                    ("source", "target"), zip(*sample, strict=True), strict=True
                ):
                    train_tokenizer(sentences, config, folder / f"{side}.model")
        return TokenizerPair.load(folder)

    def _sample_for_tokenizer(self, scan: _Scan) -> list[TextPair]:
        """Return as many kept pairs as the tokenizer may see, spread over the corpora."""
        num_kept = int((scan.verdicts == KEPT).sum())
        if not num_kept:
            raise UserError(
                "data.train: the filters leave not one pair",
                "look at data.filters; are source and target swapped, equal or empty?",
            )
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

    def _write_train(
        self, scan: _Scan, tokenizers: TokenizerPair
    ) -> tuple[list[Ledger], dict[str, Any]]:
        """Tokenise what is kept into the store; return the ledgers and the store's figures."""
        filters = self._config.data.filters
        ledgers = [Ledger(corpus_name(corpus)) for corpus in self._config.data.train]
        has_links, mapper = self._config.data.has_alignments, LinkMapper(tokenizers)
        position = 0
        with (
            progress("tokenising", len(scan.verdicts), "pairs") as shown,
            StoreWriter(self._folder / "train", tokenizers.vocab_size, has_links) as writer,
        ):
            for block in self._read_train(shown):
                codes = scan.verdicts[position : position + len(block)]
                if len(codes) < len(block):
                    raise UserError("data.train: a file grew while it was read; run it again")
                position += len(block)
                is_left_out = codes != KEPT
                ledger = ledgers[block.corpus]
                ledger.note(codes[is_left_out], *block.take(np.flatnonzero(is_left_out)))
                kept = np.flatnonzero(~is_left_out)
                sources, targets = block.take(kept)
                source_ids, target_ids = _encode((sources, targets), tokenizers)
                codes = judge_lengths(_lengths(source_ids), _lengths(target_ids), filters)
                ledger.note(codes, sources, targets)
                chosen = np.flatnonzero(codes == KEPT).tolist()
                links = [
                    mapper.map(block.links[kept[row]], (sources[row], targets[row]),
                               (source_ids[row], target_ids[row]))
                    for row in chosen
                ] if has_links else []  # fmt: skip
                writer.append(
                    [source_ids[row] for row in chosen], [target_ids[row] for row in chosen], links
                )
        if position < len(scan.verdicts):
            raise UserError("data.train: a file shrank while it was read; run it again")
        if not writer.num_pairs:
            raise UserError("data.train: the filters on length and ratio leave not one pair")
        figures = self._figures("train", writer, tokenizers)
        if has_links:
            figures["links"] = {"count": writer.num_links(), **mapper.counts()}
        return ledgers, figures

    def _write_valid(self, tokenizers: TokenizerPair) -> dict[str, Any]:
        """Tokenise valid for the dev loss; pairs longer than training's may be are left out."""
        longest = self._config.data.filters.max_tokens - 1
        texts = [
            clean_lines(list(read_lines(self._text / f"valid.{side}")))[0]
            for side in ("source", "target")
        ]
        pairs = list(zip(*_encode(texts, tokenizers), strict=True))
        fitting = [(s, t) for s, t in pairs if 0 < len(s) <= longest and 0 < len(t) <= longest]
        with StoreWriter(self._folder / "valid", tokenizers.vocab_size) as writer:
            writer.append([pair[0] for pair in fitting], [pair[1] for pair in fitting])
        if not fitting:
            raise UserError("data.valid: every pair is empty or over data.filters.max_tokens")
        figures = self._figures("valid", writer, tokenizers)
        return figures | {"left_out_of_loss": len(pairs) - len(fitting)}

    def _figures(
        self, split: str, writer: StoreWriter, tokenizers: TokenizerPair
    ) -> dict[str, Any]:
        return {
            "pairs": writer.num_pairs,
            "tokens": writer.num_tokens(),
            "vocab_size": tokenizers.vocab_size,
            "fingerprint": writer.fingerprint(),
            "sha256": file_digests(self._folder / split),
        }


def _encode(texts: Sequence[list[str]], tokenizers: TokenizerPair) -> list[list[list[int]]]:
    """Return the ids of each text of each side."""
    sides = zip((tokenizers.source, tokenizers.target), texts, strict=True)
    return [tokenizer.encode(lines, available_cores()) for tokenizer, lines in sides]


def _lengths(ids: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.fromiter(map(len, ids), np.int64, len(ids))


def blocks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block
