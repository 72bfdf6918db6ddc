"""Builds a data folder from corpora, in memory that does not grow with them.

The corpora are read three times: to judge each pair and hash it, to train the tokenizer on a
sample of what is kept, to tokenise what is kept. Between the readings a pair is one byte (its
verdict) and eight (its hash) in files. Nothing here knows torch.
"""

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mtrain.config.schema import Config, Corpus, SidePaths
from mtrain.console import Progress, progress
from mtrain.data.folders import DATA_FORMAT, data_settings
from mtrain.data.plan import derive_seed
from mtrain.data.store import StoreWriter, file_digests
from mtrain.errors import UserError
from mtrain.text.corpora import (
    RawPair,
    check_readable,
    corpus_name,
    input_digests,
    read_linked_pairs,
    read_pairs,
)
from mtrain.text.filters import CODES, KEPT, Ledger, judge_lengths, judge_text, pair_hash
from mtrain.text.lines import clean_bytes, file_digest, read_lines
from mtrain.text.links import Link, LinkMapper
from mtrain.text.tokenizer import Tokenizer, TokenizerPair, available_cores, train_tokenizer

BLOCK_PAIRS = 10_000
HASHES_AT_ONCE = 1 << 22

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
        "inputs": [digest for corpus in corpora for digest in input_digests(corpus)],
        "given_tokenizers": [file_digest(path) for path in given if path is not None],
    }


@dataclass
class _HeldOut:
    """Valid and test text, and the hashes by which its copies in train are found."""

    pairs: set[int] = field(default_factory=set)
    sources: set[int] = field(default_factory=set)


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
                for raw_source, raw_target in read_pairs(corpus, self._languages):
                    sources.write(raw_source.replace(b"\n", b" ") + b"\n")
                    targets.write(raw_target.replace(b"\n", b" ") + b"\n")
                    source, target = clean_bytes(raw_source), clean_bytes(raw_target)
                    held_out.pairs.add(pair_hash(source, target))
                    held_out.sources.add(pair_hash(source, ""))
                    count += 1
        if not count:
            raise UserError(f"{name}: there is not one pair in {corpus_name(corpora[0])}")
        return count

    def _read_train(self, shown: Progress) -> Iterator[tuple[int, RawPair, list[Link] | None]]:
        """Yield (number of the corpus, raw pair, links between its words) for all of train."""
        for number, corpus in enumerate(self._config.data.train):
            for block in blocks(read_linked_pairs(corpus, self._languages), BLOCK_PAIRS):
                for pair, links in block:
                    yield number, pair, links
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
            for _, (raw_source, raw_target), _ in self._read_train(shown):
                source, target, verdict = judge_text(raw_source, raw_target, filters)
                hashed = pair_hash(source, target)
                if verdict == KEPT:
                    source_overlap += pair_hash(source, "") in held_out.sources
                    if hashed in held_out.pairs:
                        kept_overlap += not filters.drop_overlap
                        verdict = CODES["overlap"] if filters.drop_overlap else KEPT
                verdicts.write(bytes((verdict,)))
                hashes.write(hashed.to_bytes(8, "little"))
                count += 1
        if not count:
            raise UserError("data.train: there is not one pair in the corpora")
        kept = np.memmap(verdict_path, np.uint8, "r+")
        if filters.drop_duplicates:
            mark_duplicates(np.memmap(hash_path, np.uint64, "r"), kept)
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
        sample = []
        with progress("sampling for the tokenizer", len(scan.verdicts), "pairs") as shown:
            for position, (_, pair, _) in enumerate(self._read_train(shown)):
                if scan.verdicts[position] == KEPT and (share >= 1 or random.random() < share):
                    source, target = map(clean_bytes, pair)
                    sample.append((source, target))
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
            for block in blocks(self._read_train(shown), BLOCK_PAIRS):
                verdicts = scan.verdicts[position : position + len(block)]
                if len(verdicts) < len(block):
                    raise UserError("data.train: a file grew while it was read; run it again")
                position += len(block)
                kept: list[tuple[int, TextPair, list[Link] | None]] = []
                for (corpus, pair, links), verdict in zip(block, verdicts.tolist(), strict=True):
                    source, target = map(clean_bytes, pair)
                    if verdict == KEPT:
                        kept.append((corpus, (source, target), links))
                    else:
                        ledgers[corpus].note(verdict, source, target)
                ids = _encode([texts for _, texts, _ in kept], tokenizers)
                chosen = []
                for (corpus, texts, links), pair_ids in zip(kept, ids, strict=True):
                    verdict = judge_lengths(len(pair_ids[0]), len(pair_ids[1]), filters)
                    ledgers[corpus].note(verdict, *texts)
                    if verdict == KEPT:
                        chosen.append((*pair_ids, mapper.map(links, texts, pair_ids)))
                writer.append(
                    [source_ids for source_ids, _, _ in chosen],
                    [target_ids for _, target_ids, _ in chosen],
                    [links for _, _, links in chosen],
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
            [clean_bytes(line) for line in read_lines(self._text / f"valid.{side}")]
            for side in ("source", "target")
        ]
        pairs = _encode(list(zip(*texts, strict=True)), tokenizers)
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


def _encode(pairs: list[TextPair], tokenizers: TokenizerPair) -> list[tuple[list[int], list[int]]]:
    def side(tokenizer: Tokenizer, index: int) -> list[list[int]]:
        return tokenizer.encode([pair[index] for pair in pairs], available_cores())

    return list(zip(side(tokenizers.source, 0), side(tokenizers.target, 1), strict=True))


def mark_duplicates(hashes: npt.NDArray[np.uint64], verdicts: npt.NDArray[np.uint8]) -> None:
    """Set the verdict of every kept pair whose hash an earlier kept pair has.

    Sorts the hashes in parts by their value, so that memory holds one part.
    """
    parts = max(1, -(-len(hashes) // HASHES_AT_ONCE))
    for part in range(parts):
        values, places = [], []
        for start in range(0, len(hashes), HASHES_AT_ONCE):
            chunk = hashes[start : start + HASHES_AT_ONCE]
            is_here = verdicts[start : start + HASHES_AT_ONCE] == KEPT
            is_here &= chunk % np.uint64(parts) == part
            values.append(chunk[is_here])
            places.append(np.flatnonzero(is_here) + start)
        value, place = np.concatenate(values), np.concatenate(places)
        order = np.argsort(value, kind="stable")
        is_repeat = np.zeros(len(order), dtype=bool)
        is_repeat[1:] = value[order][1:] == value[order][:-1]
        verdicts[place[order[is_repeat]]] = CODES["duplicate"]


def blocks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block
