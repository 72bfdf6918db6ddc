"""Chunks of documents: each sentence once and in order, within the budget, of drawn lengths."""

import random
from itertools import groupby
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from mtrain.config.tokenizer import TokenizerConfig
from mtrain.data.chunks import Joiner, Pair
from mtrain.data.makers.padded import BatchMaker
from mtrain.data.store import StoreWriter, TokenStore, translation_columns
from mtrain.text.tokenizer import SEPARATOR, TokenizerPair, train_tokenizer

BUDGET = 40


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> TokenizerPair:
    """A tokenizer with a prefix before each source."""
    folder = tmp_path_factory.mktemp("tokenizer")
    config = TokenizerConfig(vocab_size=300, symbols=(SEPARATOR, "<2x>"))
    train_tokenizer(["a b c", "b c d"], config, folder / "shared.model")
    return TokenizerPair.load(folder).with_prefixes((["<2x>"], []))


def sentences(tokenizers: TokenizerPair, num_documents: int) -> tuple[list[int], list[Pair | None]]:
    """Return made-up pairs that tell their number, with some dropped, and their documents."""
    generator = random.Random(1)
    documents, pairs = [], list[Pair | None]()
    for document in range(num_documents):
        for _ in range(generator.randint(1, 30)):
            number = 100 + len(pairs)
            source, target = ([number] * generator.randint(1, 8) for _ in range(2))
            documents.append(document)
            is_dropped = generator.random() < 0.05
            pairs.append(None if is_dropped else ([*tokenizers.source.prefix, *source], target))
    return documents, pairs


def joined(tokenizers: TokenizerPair, documents: list[int], pairs: list[Pair | None],
           size: int = 1000, corpus: int = 0) -> tuple[list[Pair], Joiner]:  # fmt: skip
    """Return the chunks of sentences that come in blocks of a size."""
    joiner = Joiner(BUDGET, tokenizers, corpus)
    chunks = []
    for start in range(0, len(pairs), size):
        block = slice(start, start + size)
        chunks += list(joiner.join(documents[block], pairs[block]))
    return [*chunks, *joiner.finish()], joiner


def parts(ids: list[int], separator: int) -> list[list[int]]:
    """Return the ids between separators."""
    return [list(part) for is_between, part in groupby(ids, separator.__ne__) if is_between]


def test_each_sentence_is_in_one_chunk_and_chunks_keep_to_documents_and_budget(
    tokenizers: TokenizerPair,
) -> None:
    documents, pairs = sentences(tokenizers, 40)
    chunks, joiner = joined(tokenizers, documents, pairs)
    separator, (prefix,) = tokenizers.source.separator_id, tokenizers.source.prefix
    seen = []
    for source, target in chunks:
        assert list(source).count(prefix) == 1
        assert source[0] == prefix
        split = parts(list(source)[1:], separator), parts(list(target), separator)
        rows = [part[0] - 100 for part in split[0]]
        assert rows == [part[0] - 100 for part in split[1]]
        assert rows == list(range(rows[0], rows[-1] + 1))  # consecutive: none dropped between
        assert len({documents[row] for row in rows}) == 1
        assert len(rows) == 1 or max(len(source), len(target)) + 1 <= BUDGET
        for row, *both in zip(rows, *split, strict=True):
            whole = pairs[row]
            assert whole is not None
            assert [[prefix, *both[0]], both[1]] == [list(side) for side in whole]
        seen += rows
    assert seen == [row for row, pair in enumerate(pairs) if pair is not None]
    told = joiner.describe()
    assert told["documents"] == 40
    assert sum(told["chunks"].values()) == len(chunks)
    assert sum(int(size) * count for size, count in told["chunks"].items()) == len(seen)
    assert set(told["chunks"]) >= {"1", "2", "4"}


def test_chunks_depend_on_corpus_and_document_alone(tokenizers: TokenizerPair) -> None:
    documents, pairs = sentences(tokenizers, 40)
    chunks, _ = joined(tokenizers, documents, pairs)
    assert joined(tokenizers, documents, pairs, size=7)[0] == chunks
    assert joined(tokenizers, documents, pairs, corpus=1)[0] != chunks
    size = documents.index(20)
    first, _ = joined(tokenizers, documents[:size], pairs[:size])
    assert chunks[: len(first)] == first


def test_a_sentence_that_has_the_separator_stays_alone(tokenizers: TokenizerPair) -> None:
    separator = tokenizers.source.separator_id
    prefix = tokenizers.source.prefix
    odd: Pair = ([*prefix, 7, separator, 7], [8])
    others: list[Pair] = [([*prefix, 7], [8])] * 20
    chunks, _ = joined(tokenizers, [0] * 41, [*others, odd, *others])
    assert chunks.count(odd) == 1
    assert all(len(parts(list(source), separator)) == len(parts(list(target), separator))
               for source, target in chunks if (source, target) != odd)  # fmt: skip


@pytest.mark.parametrize("type_of_vocabulary", ["bpe", "unigram"])
def test_sampled_segmentations_keep_the_separators(
    type_of_vocabulary: Literal["bpe", "unigram"], tmp_path: Path
) -> None:
    config = TokenizerConfig(type=type_of_vocabulary, vocab_size=300, symbols=(SEPARATOR,))
    train_tokenizer(["step by step", "<s e p>"] * 20, config, tmp_path / "shared.model")
    tokenizers = TokenizerPair.load(tmp_path)
    separator = tokenizers.source.separator_id
    sentences = tokenizers.source.encode(["pes step", "step", "by pes"], 1)
    chunk = [*sentences[0], separator, *sentences[1], separator, *sentences[2]]
    columns = translation_columns(tokenizers.vocab_size)
    with StoreWriter(tmp_path / "train", columns) as writer:
        writer.append({"source": [chunk] * 500, "target": [chunk] * 500})
    store = TokenStore(tmp_path / "train", columns, tokenizers.vocab_size, writer.fingerprint())
    batch = BatchMaker(store, tokenizers, 200, 10_000, subword_sampling=0.1).make(np.arange(500))
    for side in (batch.source, batch.target_out):
        assert len(side.unique(dim=0)) > 1
        assert ((side == separator).sum(dim=1) == 2).all()
