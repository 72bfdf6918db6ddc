"""What a model attended to in a sentence: weights with the tokens that they belong to.

Knows no model and draws nothing: weights come in as arrays, and go out as arrays or a file.
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
# Scripts that put no space between words: Thai to Tibetan, Burmese, Khmer, Chinese and Japanese.
# There a piece is the nearest thing to a word.
UNSPACED = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uf900-\ufaff\uff00-\uffef]"
)


@dataclass(frozen=True)
class SentenceAttention:
    """The attention weights of one sentence pair.

    Tokens are SentencePiece pieces, or words, with `</s>` last. `weights` maps a kind to an array
    (layers, heads, rows, columns) whose rows sum to one: `encoder` is of the source over itself,
    `decoder` of the target over itself (in a decoder-only model of both over both), `cross` of the
    target over the source.
    """

    source: list[str]
    target: list[str]
    weights: dict[str, FloatArray]

    def axes(self, kind: str) -> tuple[list[str], list[str]]:
        """Return the tokens of the rows and of the columns of a kind.

        A row of the target has the token that is predicted there, a column of it, one place
        later, the token that has been read.
        """
        return _axes(kind, self.weights[kind].shape[2:], self.source, self.target, START)

    def matrix(self, kind: str, layer: int | None = None, head: int | None = None) -> FloatArray:
        """Return the weights (rows, columns) of a layer and head, each from 0; None is the mean."""
        weights = self.weights[kind]
        chosen = weights if layer is None else weights[[layer]]
        chosen = chosen if head is None else chosen[:, [head]]
        mean: FloatArray = chosen.mean(axis=(0, 1))
        return mean


def _axes(
    kind: str, shape: tuple[int, ...], source: list[Label], target: list[Label], start: Label
) -> tuple[list[Label], list[Label]]:
    """Return what stands along the rows and columns of a kind, told by their number."""
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
    """Return the same attention between words: pieces joined, without the marks of their starts.

    A word is attended to as much as its pieces together, and attends as they do on average, so
    that rows still sum to one. End marks stay by themselves; so do pieces of a script that puts
    no spaces between words.
    """
    source, target = _word_numbers(attention.source), _word_numbers(attention.target)
    apart = [number + len(source) for number in target]  # no target word is a source word
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
    """Return the number of each piece's word, from 0; the last piece, the end mark, has its own."""
    begins = [
        piece.startswith(WORD_START)
        or place == len(pieces) - 1
        or bool(UNSPACED.match(piece) or UNSPACED.match(pieces[place - 1][-1:]))
        for place, piece in enumerate(pieces)
    ]
    return [0, *accumulate(begins[1:])] if pieces else []


def _membership(words: list[int]) -> npt.NDArray[np.float32]:
    """Return 1 where a place (rows) belongs to a word (columns, in order of appearance)."""
    order = {word: column for column, word in enumerate(dict.fromkeys(words))}
    return np.eye(len(order), dtype=np.float32)[[order[word] for word in words]]


def _words(pieces: list[str], numbers: list[int]) -> list[str]:
    words = [""] * (numbers[-1] + 1 if numbers else 0)
    for piece, number in zip(pieces, numbers, strict=True):
        words[number] += piece
    return [_plain(word) for word in words]


def _plain(word: str) -> str:
    """Return a word's pieces as text: no start mark (unless that is all), bytes as characters."""
    text = word.replace(WORD_START, "") or word
    return BYTE_PIECES.sub(
        lambda found: bytes.fromhex(re.sub("<0x|>", "", found[0])).decode("utf-8", "replace"), text
    )


def save_npz(path: Path, sentences: Sequence[SentenceAttention]) -> None:
    """Write sentences to a file that `numpy.load` reads, without pickled objects.

    Sentence 0 has its tokens at `0/source` and `0/target`, and float32 weights at `0/cross` and
    so on. The file appears complete or not at all.
    """
    arrays: dict[str, Any] = {}
    for number, sentence in enumerate(sentences):
        arrays[f"{number}/source"] = np.array(sentence.source, dtype=np.str_)
        arrays[f"{number}/target"] = np.array(sentence.target, dtype=np.str_)
        for kind, weights in sentence.weights.items():
            arrays[f"{number}/{kind}"] = weights.astype(np.float32)
    with write_whole(path) as file:
        np.savez_compressed(file, **arrays)
