"""Attention of a model in a sentence: weights with the tokens of their rows and columns.

Depends on no model and draws nothing: input is arrays, output is arrays or a file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mtrain.data.store import FloatArray
from mtrain.text.lines import write_whole
from mtrain.text.tokenizer import WORD_START

Label = TypeVar("Label")

START = "<s>"
BYTE_PIECES = re.compile(r"(?:<0x[0-9A-F]{2}>)+")
# Scripts without spaces between words: Thai to Tibetan, Burmese, Khmer, Chinese and Japanese.
# For these, a piece stands in for a word.
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uf900-\ufaff\uff00-\uffef]"
)


@dataclass(frozen=True)
class SentenceAttention:
    """The attention weights of one sentence pair.

    Tokens are SentencePiece pieces, or words, with `</s>` last. `weights` maps a kind to an array
    (layers, heads, rows, columns); rows sum to one. Kinds: `encoder` is source self-attention,
    `decoder` is target self-attention (over source and target in a decoder-only model), `cross`
    is target over source.
    """

    source: list[str]
    target: list[str]
    weights: dict[str, FloatArray]

    def axes(self, kind: str) -> tuple[list[str], list[str]]:
        """Return the tokens of the rows and of the columns of a kind.

        A target row has the token predicted at that position. A target column has the token
        read there, which is the one predicted a position earlier.
        """
        return _axes(kind, self.weights[kind].shape[2:], self.source, self.target, START)

    def matrix(self, kind: str, layer: int | None = None, head: int | None = None) -> FloatArray:
        """Return the weights (rows, columns) of a layer and head, from 0; None takes the mean."""
        weights = self.weights[kind]
        chosen = weights if layer is None else weights[[layer]]
        chosen = chosen if head is None else chosen[:, [head]]
        mean: FloatArray = chosen.mean(axis=(0, 1))
        return mean


def _axes(
    kind: str, shape: tuple[int, ...], source: list[Label], target: list[Label], start: Label
) -> tuple[list[Label], list[Label]]:
    """Return the labels of the rows and columns of a kind; their counts tell which."""
    read = [start, *target[:-1]]
    possible = {
        "encoder": [(source, source)],
        "decoder": [(target, read), (source + target, source + read)],
        "cross": [(target, source)],
    }
    for rows, columns in possible[kind]:
        if shape == (len(rows), len(columns)):
            return rows, columns
    raise ValueError(f"{kind} attention {shape} of {len(source)} and {len(target)} tokens")


def merge_subwords(attention: SentenceAttention) -> SentenceAttention:
    """Return the attention between words: join pieces, remove word start marks.

    Weights are summed over the pieces of a column's word and averaged over the pieces of a row's
    word, so that rows still sum to one. End marks stay separate; so do pieces of scripts without
    spaces between words.
    """
    source, target = _word_numbers(attention.source), _word_numbers(attention.target)
    apart = [number + len(source) for number in target]  # distinct from source words
    weights = {}
    for kind, pieces in attention.weights.items():
        rows, columns = (_membership(axis) for axis in
                         _axes(kind, pieces.shape[2:], source, apart, -1))  # fmt: skip
        means = rows / rows.sum(axis=0)
        weights[kind] = means.T @ pieces.astype(np.float32) @ columns
    return SentenceAttention(
        _words(attention.source, source), _words(attention.target, target), weights
    )


def _word_numbers(pieces: list[str]) -> list[int]:
    """Return the word number of each piece, from 0; the last piece, the end mark, gets its own."""
    begins = [
        piece.startswith(WORD_START)
        or place == len(pieces) - 1
        or bool(UNSPACED.match(piece) or UNSPACED.match(pieces[place - 1][-1:]))
        for place, piece in enumerate(pieces)
    ]
    return [0, *accumulate(begins[1:])] if pieces else []


def _membership(words: list[int]) -> npt.NDArray[np.float32]:
    """Return 1 where a position (row) belongs to a word (column, in order of first appearance)."""
    order = {word: column for column, word in enumerate(dict.fromkeys(words))}
    return np.eye(len(order), dtype=np.float32)[[order[word] for word in words]]


def _words(pieces: list[str], numbers: list[int]) -> list[str]:
    words = [""] * (numbers[-1] + 1 if numbers else 0)
    for piece, number in zip(pieces, numbers, strict=True):
        words[number] += piece
    return [_plain(word) for word in words]


def _plain(word: str) -> str:
    """Return a word's pieces as text: drop start marks (unless alone), decode byte pieces."""
    text = word.replace(WORD_START, "") or word
    return BYTE_PIECES.sub(
        lambda found: bytes.fromhex(re.sub("<0x|>", "", found[0])).decode("utf-8", "replace"), text
    )


def save_npz(path: Path, sentences: Sequence[SentenceAttention]) -> None:
    """Write sentences to a file that `numpy.load` reads, without pickled objects.

    Sentence 0 has its tokens at `0/source` and `0/target`, and float32 weights at `0/cross` and
    so on. The write is atomic.
    """
    arrays: dict[str, Any] = {}
    for number, sentence in enumerate(sentences):
        arrays[f"{number}/source"] = np.array(sentence.source, dtype=np.str_)
        arrays[f"{number}/target"] = np.array(sentence.target, dtype=np.str_)
        for kind, weights in sentence.weights.items():
            arrays[f"{number}/{kind}"] = weights.astype(np.float32)
    with write_whole(path) as file:
        np.savez_compressed(file, **arrays)
