"""Attention with its tokens: axes, words out of pieces, and a file that others can read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtrain.evaluation.attention import FloatArray, SentenceAttention, merge_subwords, save_npz

END = "</s>"
SOURCE = ["▁The", "▁kit", "chen", "▁is", "▁on", ".", END]
TARGET = ["▁Die", "▁K", "ü", "che", "▁ist", "▁an", ".", END]


def random_attention(
    source: list[str], target: list[str], layers: int = 2, heads: int = 3, seed: int = 1
) -> SentenceAttention:
    """Return what an encoder-decoder model could attend to."""
    generator = np.random.default_rng(seed)

    def rows_of(num_rows: int, num_columns: int, is_causal: bool = False) -> FloatArray:
        scores = generator.normal(scale=2, size=(layers, heads, num_rows, num_columns))
        if is_causal:
            scores[..., ~np.tri(num_rows, num_columns, dtype=bool)] = -np.inf
        likelihoods = np.exp(scores)
        weights = likelihoods / likelihoods.sum(axis=-1, keepdims=True)
        return weights.astype(np.float32)

    num_source, num_target = len(source), len(target)
    return SentenceAttention(
        source,
        target,
        {
            "encoder": rows_of(num_source, num_source),
            "decoder": rows_of(num_target, num_target, is_causal=True),
            "cross": rows_of(num_target, num_source),
        },
    )


def decoder_only_attention(source: list[str], target: list[str]) -> SentenceAttention:
    """Return what a model of one stack could attend to."""
    row = source + target
    return SentenceAttention(
        source, target, {"decoder": random_attention([END], row).weights["decoder"]}
    )


def test_a_row_of_the_target_is_what_is_written_and_a_column_of_it_what_was_read() -> None:
    attention = random_attention(SOURCE, TARGET)
    assert attention.axes("encoder") == (SOURCE, SOURCE)
    assert attention.axes("cross") == (TARGET, SOURCE)
    read = ["<s>", *TARGET[:-1]]
    assert attention.axes("decoder") == (TARGET, read)
    one_stack = decoder_only_attention(SOURCE, TARGET)
    assert one_stack.axes("decoder") == (SOURCE + TARGET, SOURCE + read)


def test_an_array_that_does_not_fit_its_tokens_is_refused() -> None:
    weights = random_attention(SOURCE, TARGET).weights
    with pytest.raises(ValueError, match="cross attention"):
        SentenceAttention(SOURCE, TARGET[1:], weights).axes("cross")


def test_what_is_not_chosen_is_averaged() -> None:
    attention = random_attention(SOURCE, TARGET, layers=3, heads=4)
    weights = attention.weights["cross"]
    np.testing.assert_array_equal(attention.matrix("cross", 2, 1), weights[2, 1])
    np.testing.assert_allclose(attention.matrix("cross", layer=0), weights[0].mean(0), rtol=1e-5)
    np.testing.assert_allclose(attention.matrix("cross", head=3), weights[:, 3].mean(0), rtol=1e-5)
    np.testing.assert_allclose(attention.matrix("cross"), weights.mean((0, 1)), rtol=1e-5)


def test_words_attend_as_their_pieces_on_average_to_the_sum_of_pieces() -> None:
    pieces = np.array(
        [
            [0.1, 0.2, 0.3, 0.4],
            [0.5, 0.3, 0.1, 0.1],
            [0.0, 0.0, 0.2, 0.8],
        ],
        dtype=np.float32,
    )
    merged = merge_subwords(
        SentenceAttention(["▁a", "b", "▁c", END], ["▁x", "y", END], {"cross": pieces[None, None]})
    )
    assert (merged.source, merged.target) == (["ab", "c", END], ["xy", END])
    words = [[(0.3 + 0.8) / 2, (0.3 + 0.1) / 2, (0.4 + 0.1) / 2], [0.0, 0.2, 0.8]]
    np.testing.assert_allclose(merged.matrix("cross"), words, atol=1e-6)


@pytest.mark.parametrize("make", [random_attention, decoder_only_attention])
def test_rows_of_words_sum_to_one_in_every_kind(
    make: Callable[[list[str], list[str]], SentenceAttention],
) -> None:
    pieces = make(SOURCE, TARGET)
    words = merge_subwords(pieces)
    assert set(words.weights) == set(pieces.weights)
    for kind, weights in words.weights.items():
        rows, columns = words.axes(kind)
        assert weights.shape == (*pieces.weights[kind].shape[:2], len(rows), len(columns))
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    assert words.source == ["The", "kitchen", "is", "on.", END]
    assert words.target == ["Die", "Küche", "ist", "an.", END]


def test_pieces_that_are_words_keep_their_weights() -> None:
    pieces = random_attention(["▁ab", "▁c", END], ["▁x", END])
    words = merge_subwords(pieces)
    assert (words.source, words.target) == (["ab", "c", END], ["x", END])
    for kind, weights in pieces.weights.items():
        np.testing.assert_allclose(words.weights[kind], weights, atol=1e-6)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (["▁我们", "今天", "去", "。"], ["我们", "今天", "去", "。"]),  # no spaces: a piece a word
        (["▁用", "Py", "thon", "▁写"], ["用", "Python", "写"]),
        (["▁Hi", "▁", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "!"], ["Hi", "😀!"]),
        (["▁", "▁", "a"], ["▁", "a"]),
        (["▁a", "<0xFF>", "▁<0x", "GG>"], ["a\ufffd", "<0xGG>"]),
        (["no", "▁start"], ["no", "start"]),
        ([], []),
    ],
)
def test_words_are_what_stands_between_spaces(pieces: list[str], words: list[str]) -> None:
    attention = random_attention([*pieces, END], [*pieces, END])
    merged = merge_subwords(attention)
    assert merged.source == merged.target == [*words, END]


def test_a_file_holds_tokens_and_weights_and_nothing_pickled(tmp_path: Path) -> None:
    sentences = [
        random_attention(SOURCE, TARGET),
        random_attention(["▁我们", "😀", "مرحبا", END], [END], layers=1, heads=1),
        decoder_only_attention(SOURCE, TARGET),
    ]
    path = tmp_path / "attention.npz"
    save_npz(path, sentences)
    assert list(tmp_path.iterdir()) == [path]
    with np.load(path, allow_pickle=False) as arrays:
        expected = {f"{number}/{name}" for number, sentence in enumerate(sentences)
                    for name in ("source", "target", *sentence.weights)}  # fmt: skip
        assert set(arrays.files) == expected
        for number, sentence in enumerate(sentences):
            assert arrays[f"{number}/source"].tolist() == sentence.source
            assert arrays[f"{number}/target"].tolist() == sentence.target
            for kind, weights in sentence.weights.items():
                assert arrays[f"{number}/{kind}"].dtype == np.float32
                np.testing.assert_array_equal(arrays[f"{number}/{kind}"], weights)
