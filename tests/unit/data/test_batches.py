"""Batches: the right ids in the right places, and a stream that any cursor finds its place in."""

import itertools
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mtrain.config.tokenizer import TokenizerConfig
from mtrain.data.batch import PairBatch
from mtrain.data.makers.padded import BatchMaker
from mtrain.data.mixture import Mixture
from mtrain.data.plan import plan_epoch
from mtrain.data.prefetch import Prefetcher
from mtrain.data.store import StoreWriter, TokenStore, translation_columns
from mtrain.data.updates import PlannedUpdate, planned_updates
from mtrain.text.tokenizer import Tokenizer, TokenizerPair, train_tokenizer

NUM_PAIRS = 120
ACCUMULATE = 3
ALONE = (0, 1)
SEED = 5
START, END = 2, 3


def sentences(count: int, words: list[str], seed: int) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(words, k=generator.randint(1, 8))) for _ in range(count)]


TEXT = {
    "source": sentences(NUM_PAIRS, ["three", "seven", "eleven", "seventeen", "thirteen"], 1),
    "target": sentences(NUM_PAIRS, ["drei", "sieben", "elf", "siebzehn", "dreizehn"], 2),
}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> TokenizerPair:
    """A tokenizer a side."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for side, texts in TEXT.items():
        train_tokenizer(texts, TokenizerConfig(vocab_size=300), folder / f"{side}.model")
    return TokenizerPair.load(folder)


@pytest.fixture(scope="module")
def store(tokenizers: TokenizerPair, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """The text in tokens."""
    folder = tmp_path_factory.mktemp("data") / "train"
    ids = [getattr(tokenizers, side).encode(texts) for side, texts in TEXT.items()]
    return write_store(folder, dict(zip(("source", "target"), ids, strict=True)), tokenizers)


def write_store(
    folder: Path, rows: dict[str, list[list[int]]], tokenizers: TokenizerPair
) -> TokenStore:
    columns = translation_columns(tokenizers.vocab_size, "links" in rows)
    with StoreWriter(folder, columns) as writer:
        writer.append(rows)
    return TokenStore(folder, columns, tokenizers.vocab_size, writer.fingerprint())


@pytest.fixture(scope="module")
def linked_store(
    store: TokenStore, tokenizers: TokenizerPair, tmp_path_factory: pytest.TempPathFactory
) -> TokenStore:
    """The same tokens, with links between some."""
    folder, generator = tmp_path_factory.mktemp("data") / "linked", random.Random(3)
    rows = {name: [column.row(row) for row in range(NUM_PAIRS)]
            for name, column in store.columns.items()}  # fmt: skip
    links = []
    for source, target in zip(*rows.values(), strict=True):
        every = list(itertools.product(range(len(source)), range(len(target))))
        chosen = generator.sample(every, generator.randint(0, len(every)))
        links.append(list(itertools.chain.from_iterable(chosen)))
    return write_store(folder, rows | {"links": links}, tokenizers)


@pytest.fixture
def linked_maker(linked_store: TokenStore, tokenizers: TokenizerPair) -> BatchMaker:
    return BatchMaker(linked_store, tokenizers, max_tokens=100, batch_tokens=64)


@pytest.fixture
def maker(store: TokenStore, tokenizers: TokenizerPair) -> BatchMaker:
    return BatchMaker(store, tokenizers, max_tokens=100, batch_tokens=64)


@pytest.fixture
def sampling_maker(store: TokenStore, tokenizers: TokenizerPair) -> BatchMaker:
    return BatchMaker(store, tokenizers, max_tokens=100, batch_tokens=64, subword_sampling=0.3)


def equal(first: PairBatch, second: PairBatch) -> bool:
    return all(
        torch.equal(value, vars(second)[name]) if isinstance(value, torch.Tensor)
        else value == vars(second)[name]
        for name, value in vars(first).items()
    )  # fmt: skip


def check_shape_and_marks(
    batch: PairBatch, sources: list[list[int]], targets: list[list[int]]
) -> None:
    """Compare a batch with its pairs' ids, one by one."""
    assert batch.source.shape == (len(sources), max(map(len, sources)) + 1)
    assert batch.target_in.shape == batch.target_out.shape
    assert batch.target_out.shape == (len(targets), max(map(len, targets)) + 1)
    assert batch.num_target_tokens == sum(len(ids) + 1 for ids in targets)
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        width, height = len(source) + 1, len(target) + 1
        assert (batch.source_lengths[row], batch.target_lengths[row]) == (width, height)
        assert batch.source[row, :width].tolist() == [*source, END]
        assert batch.target_in[row, :height].tolist() == [START, *target]
        assert batch.target_out[row, :height].tolist() == [*target, END]


def test_a_batch_holds_each_pair_with_its_marks(store: TokenStore, maker: BatchMaker) -> None:
    rows = np.random.default_rng(1).permutation(NUM_PAIRS)[:40]
    batch = maker.make(rows)
    check_shape_and_marks(
        batch, *([side.row(row) for row in rows] for side in (store.source, store.target))
    )
    assert equal(batch, maker.make(rows, seed=9))  # which only matters to sampling


def test_links_stand_where_their_target_token_is_predicted(
    linked_store: TokenStore, linked_maker: BatchMaker, maker: BatchMaker
) -> None:
    assert linked_store.links is not None
    rows = np.random.default_rng(1).permutation(NUM_PAIRS)[:40]
    batch = linked_maker.make(rows)
    assert batch.links is not None
    assert batch.links.shape == (*batch.target_out.shape, batch.source.shape[1])
    sums = batch.links.sum(dim=2)
    torch.testing.assert_close(sums, sums.round())
    assert set(sums.round().unique().tolist()) == {0, 1}
    for place, row in enumerate(rows):
        source, target = (side.row(row) for side in (linked_store.source, linked_store.target))
        linked = batch.links[place].nonzero().tolist()
        assert sorted((s, t) for t, s in linked) == sorted(linked_store.links.of_pair(row))
        for t, s in linked:  # so no end mark and no padding has a link
            assert batch.target_out[place, t] == target[t]
            assert batch.source[place, s] == source[s]
    plain = maker.make(rows)
    assert plain.links is None
    assert equal(replace(batch, links=None), plain)


def test_a_batch_takes_its_links_along(linked_maker: BatchMaker) -> None:
    batch = linked_maker.make(np.arange(7))
    moved = batch.to(torch.device("meta"))
    assert batch.links is not None
    assert moved.links is not None
    assert moved.links.device.type == "meta"
    assert equal(batch.to(torch.device("cpu")), batch)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("kind", ["maker", "linked_maker"])
def test_a_split_batch_holds_the_same_pairs_without_the_others_padding(
    kind: str, parts: int, request: pytest.FixtureRequest
) -> None:
    maker: BatchMaker = request.getfixturevalue(kind)
    rows = np.arange(7)
    pieces = maker.make(rows).split(parts)
    assert len(pieces) <= parts
    sizes = [len(piece.source) for piece in pieces]
    assert sum(sizes) == 7
    ends = list(itertools.accumulate(sizes))
    for piece, start, end in zip(pieces, [0, *ends], ends, strict=False):
        assert equal(piece, maker.make(rows[start:end]))


def take(
    store: TokenStore,
    maker: BatchMaker,
    count: int,
    cursor: tuple[int, int] = (0, 0),
    share: tuple[int, int] = ALONE,
    seed: int = SEED,
) -> list[PlannedUpdate]:
    """Return the first updates from a cursor on."""
    stream = planned_updates(maker, Mixture([NUM_PAIRS]), seed, ACCUMULATE, cursor, share)
    return list(itertools.islice(stream, count))


def same_updates(first: list[PlannedUpdate], second: list[PlannedUpdate]) -> bool:
    return len(first) == len(second) and all(
        (one.next_epoch, one.next_batch) == (two.next_epoch, two.next_batch)
        and len(one.batches) == len(two.batches)
        and all(map(equal, one.batches, two.batches))
        for one, two in zip(first, second, strict=True)
    )


@pytest.fixture(params=["maker", "linked_maker", "sampling_maker"])
def any_maker(request: pytest.FixtureRequest) -> BatchMaker:
    """Without and with links, and with subword sampling."""
    maker: BatchMaker = request.getfixturevalue(request.param)
    return maker


def test_from_any_cursor_the_stream_goes_on_as_from_the_start(
    store: TokenStore, any_maker: BatchMaker
) -> None:
    num_batches = len(plan_epoch(store.source.lengths + 1, store.target.lengths + 1, 64, SEED, 0))
    assert num_batches % ACCUMULATE  # so that an epoch ends within an update
    updates = take(store, any_maker, 3 * num_batches // ACCUMULATE)
    assert updates[-1].next_epoch >= 2
    for done in range(len(updates)):
        cursor = (updates[done].next_epoch, updates[done].next_batch)
        tail = updates[done + 1 :]
        assert same_updates(take(store, any_maker, len(tail), cursor), tail)


def test_an_epoch_gives_each_batch_of_its_plan_once(store: TokenStore, maker: BatchMaker) -> None:
    plan = plan_epoch(store.source.lengths + 1, store.target.lengths + 1, 64, SEED, 0)
    stream = planned_updates(maker, Mixture([len(store)]), SEED, ACCUMULATE, (0, 0), ALONE)
    epoch = []
    for update in stream:
        epoch.append(update)
        if update.next_epoch:
            break
    assert all(map(equal, (b for update in epoch for b in update.batches), map(maker.make, plan)))
    assert [len(update.batches) for update in epoch[:-1]] == [ACCUMULATE] * (len(epoch) - 1)
    assert len(epoch[-1].batches) == len(plan) % ACCUMULATE
    assert (epoch[-1].next_epoch, epoch[-1].next_batch) == (1, 0)


def test_the_largest_batch_of_a_plan_has_the_most_places(
    store: TokenStore, maker: BatchMaker
) -> None:
    plan = maker.plan(np.arange(len(store)), SEED, 0)
    sizes = [batch.source.numel() + batch.target_out.numel() for batch in map(maker.make, plan)]
    largest = maker.largest(plan)
    assert largest.source.numel() + largest.target_out.numel() == max(sizes) > min(sizes)


@pytest.mark.parametrize("size", [2, 3])
def test_the_shares_of_several_processes_are_the_whole_dealt_out(
    size: int, store: TokenStore, any_maker: BatchMaker
) -> None:
    whole = take(store, any_maker, 20)
    shares = [take(store, any_maker, 20, share=(rank, size)) for rank in range(size)]
    for update, parts in zip(whole, zip(*shares, strict=True), strict=True):
        for part in parts:
            assert (part.next_epoch, part.next_batch) == (update.next_epoch, update.next_batch)
        dealt = zip(*(part.batches for part in parts), strict=True)  # equally many to each
        merged = [batch for hand in dealt for batch in hand if batch.num_target_tokens]
        assert len(merged) == len(update.batches)
        assert all(map(equal, merged, update.batches))


def test_another_seed_and_another_epoch_give_other_batches(
    store: TokenStore, maker: BatchMaker
) -> None:
    first = take(store, maker, 4)
    assert not same_updates(first, take(store, maker, 4, seed=SEED + 1))
    assert not any(map(equal, first[0].batches, take(store, maker, 1, (1, 0))[0].batches))


def without_end(ids: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
    return [row[: length - 1].tolist() for row, length in zip(ids, lengths, strict=True)]


def test_sampled_batches_say_the_same_in_other_tokens(
    store: TokenStore, tokenizers: TokenizerPair, sampling_maker: BatchMaker, maker: BatchMaker
) -> None:
    rows = np.arange(NUM_PAIRS)
    plain, first, second = maker.make(rows), *(sampling_maker.make(rows, s) for s in (1, 2))
    assert equal(first, sampling_maker.make(rows, 1))
    assert not equal(first, second)
    assert not equal(first, plain)
    for batch in (first, second):
        sources = without_end(batch.source, batch.source_lengths)
        targets = without_end(batch.target_out, batch.target_lengths)
        assert tokenizers.source.decode(sources) == TEXT["source"]
        assert tokenizers.target.decode(targets) == TEXT["target"]
        check_shape_and_marks(batch, sources, targets)


def test_a_sample_too_long_for_the_model_gives_way_to_the_stored_tokens(
    store: TokenStore, tokenizers: TokenizerPair
) -> None:
    longest = int(max(store.source.lengths.max(), store.target.lengths.max()))
    rows = np.arange(NUM_PAIRS)
    tight = BatchMaker(store, tokenizers, longest + 1, 64, subword_sampling=0.9).make(rows)
    free = BatchMaker(store, tokenizers, 10_000, 64, subword_sampling=0.9).make(rows)
    assert max(tight.source.shape[1], tight.target_out.shape[1]) <= longest + 1
    assert max(free.source.shape[1], free.target_out.shape[1]) > longest + 1
    unchanged = (tight.source_lengths != free.source_lengths).nonzero()
    assert len(unchanged)
    for row in unchanged.flatten().tolist():
        assert tight.source_lengths[row] == store.source.lengths[row] + 1


def test_padding_is_the_end_mark_also_where_it_is_another_number(
    store: TokenStore, tokenizers: TokenizerPair
) -> None:
    source, target = (Tokenizer(side.path) for side in (tokenizers.source, tokenizers.target))
    source.eos_id, target.eos_id, target.bos_id = 7, 8, 9
    batch = BatchMaker(store, TokenizerPair(source, target), 100, 64).make(np.arange(20))
    places = torch.arange(batch.source.shape[1]) >= batch.source_lengths[:, None] - 1
    assert set(batch.source[places].tolist()) == {7}
    places = torch.arange(batch.target_out.shape[1]) >= batch.target_lengths[:, None] - 1
    assert set(batch.target_out[places].tolist()) == {8}
    assert set(batch.target_in[:, 0].tolist()) == {9}


def test_the_prefetcher_gives_all_in_order_and_then_ends() -> None:
    assert list(Prefetcher(range(100))) == list(range(100))
    assert list(Prefetcher([])) == []


def test_the_prefetcher_hands_an_error_on_after_what_came_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    prefetcher = Prefetcher(items())
    assert [next(prefetcher), next(prefetcher)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(prefetcher)


def test_the_prefetcher_works_ahead_but_not_without_limit() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            made.append(number)
            yield number

    prefetcher = Prefetcher(items())
    assert next(prefetcher) == 0
    deadline = time.monotonic() + 10
    while len(made) < Prefetcher.DEPTH + 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.05)
    assert Prefetcher.DEPTH < len(made) <= Prefetcher.DEPTH + 2
    prefetcher.close()


@pytest.mark.parametrize("num_used", [0, 1, 20])
@pytest.mark.parametrize("kind", ["endless", "finished", "failed"])
def test_closing_the_prefetcher_ends_its_thread(kind: str, num_used: int) -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        if kind == "endless":
            yield from itertools.count()
        if kind == "failed":
            raise ValueError

    before = threading.active_count()
    prefetcher = Prefetcher(items())
    for _ in range(num_used):
        next(prefetcher)
    prefetcher.close()
    assert threading.active_count() == before
    prefetcher.close()  # a second time does no harm


def test_the_prefetcher_knows_how_long_it_was_waited_for() -> None:
    def slow() -> Iterator[int]:
        for number in range(3):
            time.sleep(0.05)
            yield number

    prefetcher = Prefetcher(slow())
    assert list(prefetcher) == [0, 1, 2]
    assert prefetcher.seconds_waited >= 0.14
