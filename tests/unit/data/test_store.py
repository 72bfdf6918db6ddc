"""The token store: what was written is read, and a damaged one is refused."""

import random
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from mtrain.data.store import (
    LINKS,
    SIDES,
    TEACHER,
    IntArray,
    StoreWriter,
    TokenStore,
    check_files,
    translation_columns,
    vector_dtype,
)
from mtrain.data.vector_writer import VectorWriter, check_room
from mtrain.errors import UserError
from mtrain.text.lines import file_digests
from mtrain.text.links import Link

Ids = list[list[int]]
PairLinks = list[list[Link]]
SMALL, LARGE = 1 << 16, (1 << 16) + 1  # two bytes a token, four bytes a token


def random_side(count: int, vocab_size: int, seed: int) -> Ids:
    """Return sentences of 0 to 12 ids, among them the largest id there is."""
    generator = random.Random(seed)
    sentences = [
        [generator.randrange(vocab_size) for _ in range(generator.randint(0, 12))]
        for _ in range(count)
    ]
    sentences[-1] = [0, vocab_size - 1]
    return sentences


def random_links(sources: Ids, targets: Ids, seed: int) -> PairLinks:
    """Return some of the links that there can be in each pair, none in every third."""
    generator = random.Random(seed)
    links = []
    for number, (source, target) in enumerate(zip(sources, targets, strict=True)):
        every = [(s, t) for s in range(len(source)) for t in range(len(target))]
        links.append(generator.sample(every, k=generator.randint(0, len(every)) * (number % 3 > 0)))
    return links


def write(
    folder: Path,
    sources: Ids,
    targets: Ids,
    vocab_size: int = SMALL,
    block: int = 7,
    links: PairLinks | None = None,
) -> str:
    with StoreWriter(folder, translation_columns(vocab_size, links is not None)) as writer:
        for start in range(0, len(sources), block):
            rows = slice(start, start + block)
            columns = {"source": sources[rows], "target": targets[rows]}
            if links is not None:
                columns[LINKS] = [list(chain.from_iterable(pair)) for pair in links[rows]]
            writer.append(columns)
        assert writer.num_pairs == len(sources)
        counts = dict(zip(SIDES, (sum(map(len, sources)), sum(map(len, targets))), strict=True))
        if links is not None:
            counts[LINKS] = 2 * sum(map(len, links))
        assert writer.counts() == counts
    return writer.fingerprint()


def open_store(
    folder: Path, vocab_size: int, fingerprint: str, has_links: bool = False
) -> TokenStore:
    return TokenStore(folder, translation_columns(vocab_size, has_links), vocab_size, fingerprint)


@pytest.mark.parametrize("vocab_size", [SMALL, LARGE])
@pytest.mark.parametrize("count", [1, 7, 50])
def test_what_was_written_is_read(count: int, vocab_size: int, tmp_path: Path) -> None:
    sources, targets = (random_side(count, vocab_size, seed) for seed in (1, 2))
    fingerprint = write(tmp_path / "train", sources, targets, vocab_size)
    store = open_store(tmp_path / "train", vocab_size, fingerprint)
    assert len(store) == count
    assert [store.source.row(row) for row in range(count)] == sources
    assert [store.target.row(row) for row in range(count)] == targets
    assert store.source.lengths.tolist() == [len(ids) for ids in sources]
    assert isinstance(store.source.tokens, np.memmap)
    assert isinstance(store.source.offsets, np.memmap)
    assert store.source.tokens.itemsize == (2 if vocab_size == SMALL else 4)


def test_a_batch_read_at_once_is_the_batch_read_sentence_by_sentence(tmp_path: Path) -> None:
    sources, targets = (random_side(60, SMALL, seed) for seed in (3, 4))
    store = open_store(tmp_path / "a", SMALL, write(tmp_path / "a", sources, targets))
    generator = np.random.default_rng(5)
    for _ in range(20):
        rows = generator.permutation(60)[: generator.integers(1, 60)]
        for side, sentences in ((store.source, sources), (store.target, targets)):
            width = max(len(sentences[row]) for row in rows) + int(generator.integers(0, 3))
            expected = [
                (sentences[row] + [9] * width)[:width] for row in rows
            ]  # 9 also is an id: places are told by length, not by value
            assert side.padded(rows, 9, width).tolist() == expected


@pytest.mark.parametrize("vocab_size", [SMALL, LARGE])
def test_links_that_were_written_are_read(vocab_size: int, tmp_path: Path) -> None:
    sources, targets = (random_side(50, vocab_size, seed) for seed in (1, 2))
    links = random_links(sources, targets, 3)
    fingerprint = write(tmp_path / "a", sources, targets, vocab_size, links=links)
    store = open_store(tmp_path / "a", vocab_size, fingerprint, has_links=True)
    assert store.links is not None
    assert [store.links.of_pair(row) for row in range(50)] == links
    assert isinstance(store.links.tokens, np.memmap)
    assert isinstance(store.links.offsets, np.memmap)
    assert [store.source.row(row) for row in range(50)] == sources
    assert [store.target.row(row) for row in range(50)] == targets


def test_the_links_of_a_target_token_share_one_evenly(tmp_path: Path) -> None:
    sources, targets = (random_side(60, SMALL, seed) for seed in (3, 4))
    links = random_links(sources, targets, 5)
    fingerprint = write(tmp_path / "a", sources, targets, links=links)
    store = open_store(tmp_path / "a", SMALL, fingerprint, has_links=True)
    assert store.links is not None
    generator = np.random.default_rng(5)
    for _ in range(20):
        rows = generator.permutation(60)[: generator.integers(1, 60)]
        shares = store.links.shares(rows, 13, 14)
        assert shares.dtype == np.float32
        expected = np.zeros((len(rows), 13, 14))
        for place, row in enumerate(rows):
            for source, target in links[row]:
                num_links = sum(other == target for _, other in links[row])
                expected[place, target, source] = 1 / num_links
        np.testing.assert_allclose(shares, expected, rtol=1e-6)


def test_a_store_may_have_no_link_at_all(tmp_path: Path) -> None:
    fingerprint = write(tmp_path / "a", [[1], [2]], [[3], [4]], links=[[], []])
    store = open_store(tmp_path / "a", SMALL, fingerprint, has_links=True)
    assert store.links is not None
    assert not store.links.shares(np.array([0, 1]), 2, 2).any()
    assert fingerprint != write(tmp_path / "b", [[1], [2]], [[3], [4]])


def test_empty_sentences_are_stored_even_if_there_are_no_others(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a", SMALL, write(tmp_path / "a", [[], []], [[], [5]]))
    assert store.source.padded(np.array([0, 1]), 3, 2).tolist() == [[3, 3], [3, 3]]
    assert store.target.padded(np.array([0, 1]), 3, 2).tolist() == [[3, 3], [5, 3]]


def test_the_fingerprint_follows_every_token_and_every_border(tmp_path: Path) -> None:
    pairs = [
        ([[1, 2], [3]], [[4], [5]]),
        ([[1, 2], [4]], [[4], [5]]),
        ([[1], [2, 3]], [[4], [5]]),
        ([[1, 2], [3]], [[4, 5], []]),
        ([[4], [5]], [[1, 2], [3]]),
        ([[1, 2], [3], []], [[4], [5], []]),
    ]
    fingerprints = {write(tmp_path / f"{n}", *sides) for n, sides in enumerate(pairs)}
    assert len(fingerprints) == len(pairs)
    assert write(tmp_path / "again", *pairs[0]) in fingerprints


def test_the_fingerprint_follows_every_link_and_every_border(tmp_path: Path) -> None:
    links: list[PairLinks] = [
        [[(0, 0), (1, 0)], [(0, 0)]],
        [[(0, 0)], [(1, 0), (0, 0)]],
        [[(0, 0), (1, 0)], []],
        [[(0, 0), (0, 1)], [(0, 0)]],
        [[], []],
    ]
    sides = [[1, 2], [3, 4]], [[5, 6], [7, 8]]
    fingerprints = {write(tmp_path / f"{n}", *sides, links=of) for n, of in enumerate(links)}
    assert len(fingerprints | {write(tmp_path / "without", *sides)}) == len(links) + 1
    assert write(tmp_path / "again", *sides, links=links[0]) in fingerprints


def test_a_store_without_links_is_the_one_it_was_before_there_were_links(tmp_path: Path) -> None:
    fingerprint = write(tmp_path / "a", [[1, 2], [3], [7]], [[4], [5, 6], []], block=2)
    assert fingerprint == "017bdb9968e66ec54f73bb23355febf68d94bdaac6b0aa1ea787ad35c536e65e"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "source.offsets",
        "source.tokens",
        "target.offsets",
        "target.tokens",
    ]
    assert open_store(tmp_path / "a", SMALL, fingerprint).links is None


DAMAGES = {
    "removed": None,
    "emptied": lambda size: 0,
    "cut to half": lambda size: size // 2,
    "cut by an entry": lambda size: size - 8,
    "cut by a token": lambda size: size - 2,
    "cut by a byte": lambda size: size - 1,
    "longer by a byte": lambda size: size + 1,
    "longer by an entry": lambda size: size + 8,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", [f"{part}.{kind}" for part in (*SIDES, LINKS) for kind in ("tokens", "offsets")]
)
def test_a_damaged_file_is_refused_with_the_folder_named(
    name: str, damage: str, tmp_path: Path
) -> None:
    folder = tmp_path / "data" / "train"
    sentences = [[1, 2, 3]] * 9
    fingerprint = write(folder, sentences, sentences, links=[[(0, 2), (1, 1)]] * 9)
    resize = DAMAGES[damage]
    if resize is None:
        (folder / name).unlink()
    else:
        with (folder / name).open("r+b") as file:
            file.truncate(resize((folder / name).stat().st_size))
    with pytest.raises(UserError) as caught:
        open_store(folder, SMALL, fingerprint, has_links=True)
    assert f"{folder}: the token store is damaged, or not the one" in str(caught.value)
    assert f"remove {tmp_path / 'data'} and run `mtrain prepare` again" in str(caught.value)


@pytest.mark.parametrize("part", [*SIDES, LINKS])
def test_parts_of_unequal_length_are_refused(part: str, tmp_path: Path) -> None:
    for name, count in (("a", 3), ("b", 4)):
        write(tmp_path / name, [[1]] * count, [[1]] * count, links=[[(0, 0)]] * count)
    for kind in ("tokens", "offsets"):
        (tmp_path / "b" / f"{part}.{kind}").replace(tmp_path / "a" / f"{part}.{kind}")
    with pytest.raises(UserError, match="damaged"):
        open_store(tmp_path / "a", SMALL, "", has_links=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("source.offsets", np.array([1, 2, 6])),
        ("source.offsets", np.array([0, 7, 6])),
        ("target.offsets", np.array([0, -1, 6])),
        ("links.offsets", np.array([0, 6, 4])),
        ("target.tokens", np.array([1, 2, 3, 1, 4, 3], np.uint16)),
    ],
    ids=["from one on", "past the end", "below zero", "backwards", "of a larger vocabulary"],
)
def test_numbers_that_lead_nowhere_are_refused(
    name: str, content: IntArray, tmp_path: Path
) -> None:
    """Files of the right sizes, as another store has them, or none."""
    folder = tmp_path / "data"
    write(folder, [[1, 2, 3]] * 2, [[1, 2, 3]] * 2, links=[[(0, 2)]] * 2)
    open_store(folder, 4, "", has_links=True)
    content.tofile(folder / name)
    with pytest.raises(UserError, match="damaged"):
        open_store(folder, 4, "", has_links=True)


@pytest.mark.parametrize("part", [*SIDES, LINKS])
@pytest.mark.parametrize("kind", ["tokens", "offsets"])
def test_one_bit_makes_it_another_store(part: str, kind: str, tmp_path: Path) -> None:
    write(tmp_path / "a", [[1, 2, 3]] * 9, [[1, 2, 3]] * 9, links=[[(0, 2), (1, 1)]] * 9)
    digests = file_digests(tmp_path / "a")
    check_files(tmp_path / "a", digests)
    path = tmp_path / "a" / f"{part}.{kind}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{tmp_path / 'a'}: the token store is damaged"):
        check_files(tmp_path / "a", digests)


def test_vectors_of_any_kind_are_read_as_written(tmp_path: Path) -> None:
    """A pair may have none; what is read of several pairs is padded with 0."""
    sources = [[1], [2, 3], [4]]
    fingerprint = write(tmp_path / "store", sources, sources)
    generator = np.random.default_rng(1)
    kinds = [vector_dtype(3, "uint32"), vector_dtype(3)]
    columns = {**translation_columns(SMALL), **dict(zip(TEACHER, kinds, strict=True))}
    written = {}
    for name, kind in zip(TEACHER, kinds, strict=True):
        rows = [generator.integers(1 << 10, size=(number, 3)).astype(np.dtype(kind).base)
                for number in (2, 0, 3)]  # fmt: skip
        with VectorWriter(tmp_path / "store", name) as writer:
            writer.append(rows[:1])
            writer.append(rows[1:])
        written[name] = rows
    store = TokenStore(tmp_path / "store", columns, SMALL, fingerprint)
    assert store.teacher is not None
    assert store.features is None
    for column, rows in zip(store.teacher, written.values(), strict=True):
        read, lengths = column.padded(np.array([2, 0, 1]))
        assert lengths.tolist() == [3, 2, 0]
        assert read.dtype == rows[0].dtype
        for found, row in zip(read, (rows[2], rows[0], rows[1]), strict=True):
            assert (found[: len(row)] == row).all()
            assert not found[len(row) :].any()


def test_room_on_the_disk_is_checked(tmp_path: Path) -> None:
    check_room(tmp_path, 1, "something", "")
    with pytest.raises(UserError, match="something, and"):
        check_room(tmp_path, 1 << 60, "something", "use less")
