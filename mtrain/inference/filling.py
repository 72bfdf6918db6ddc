"""Fills masked tokens: the likeliest words for each `[MASK]` of a line.

Depends on the contract of `Model` only. Shapes: N masks, D width, V vocabulary.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtrain.data.makers.texts import pad_texts
from mtrain.data.plan import plan_in_order
from mtrain.data.store import FloatArray
from mtrain.errors import UserError
from mtrain.evaluation.attention import BYTE_PIECES, UNSPACED
from mtrain.models.base import AttentionRecord, Model
from mtrain.nn.output import IGNORE_INDEX
from mtrain.runtime.precision import Precision
from mtrain.text.lines import clean_lines
from mtrain.text.masks import encode_masked, has_mask
from mtrain.text.tokenizer import Tokenizer, available_cores

CONTINUES = "##"  # before a piece that continues the word before it, as in BERT's vocabularies
MOST_LOGITS = 1 << 24  # computed at once


@dataclass(frozen=True)
class Guess:
    """A word for a mask; one that continues the word before it begins with `##`."""

    word: str
    probability: float


@dataclass(frozen=True)
class FilledLine:
    """The guesses for each mask of one line, likeliest first; a line without masks has none."""

    masks: list[list[Guess]]
    is_long: bool = False  # more than the model reads at once: each mask saw the tokens around it
    is_valid_text: bool = True  # False if bytes that are not UTF-8 were replaced


@dataclass(frozen=True)
class _Text:
    """What the model reads at once: a line, or the part of a long one around a mask."""

    line: int
    ids: list[int]
    places: list[int]  # of the masks to fill


class Filler:
    """Fills the masks of lines with a model that has learnt to predict masked tokens."""

    def __init__(
        self, model: Model, tokenizer: Tokenizer, precision: Precision, batch_tokens: int
    ) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._precision = precision
        self._batch_tokens = batch_tokens
        self._mask_id = tokenizer.mask_id
        (self._own_mask,) = tokenizer.pieces([self._mask_id])
        self._begins_word = tokenizer.is_word_start
        self._is_word = torch.zeros(tokenizer.vocab_size, dtype=torch.bool)
        self._is_word[tokenizer.ordinary_ids] = True
        self._is_word[self._mask_id] = False

    @property
    def max_ids(self) -> int:
        """Most ids that the model reads at once, without the end mark."""
        return self._model.max_positions - 1

    def check_top(self, top: int) -> None:
        """Raise UserError unless there are as many words to choose from."""
        num_words = int(self._is_word.sum())
        if not 1 <= top <= num_words:
            raise UserError(f"top {top}: this vocabulary has {num_words:,} words to choose from")

    def fill(
        self, lines: Sequence[bytes], top: int, on_progress: Callable[[int], None] = lambda _: None
    ) -> list[FilledLine]:
        """Return the `top` likeliest words for each mask of each line, in order.

        Probabilities are over the whole vocabulary. Tells `on_progress` how many more lines are
        done. Raises `UserError` if there are not so many words.
        """
        self.check_top(top)
        cleaned, validity = clean_lines(lines)
        with_masks = [line for line, text in enumerate(cleaned) if has_mask(text, self._own_mask)]
        on_progress(len(lines) - len(with_masks))
        encoded = encode_masked(
            [cleaned[line] for line in with_masks], self._tokenizer, available_cores()
        )
        masks: list[list[list[Guess]]] = [[] for _ in lines]
        texts = [text for line, ids in zip(with_masks, encoded, strict=True)
                 for text in self._cut(line, ids)]  # fmt: skip
        for text, guesses in zip(texts, self._fill_texts(texts, top, on_progress), strict=True):
            masks[text.line] += guesses
        long_lines = {line for line, ids in zip(with_masks, encoded, strict=True)
                      if len(ids) > self.max_ids}  # fmt: skip
        of_lines = enumerate(zip(masks, validity, strict=True))
        return [FilledLine(each, line in long_lines, is_valid)
                for line, (each, is_valid) in of_lines]  # fmt: skip

    def _fill_texts(
        self, texts: Sequence[_Text], top: int, on_progress: Callable[[int], None]
    ) -> list[list[list[Guess]]]:
        """Return the guesses for each mask of each text."""
        found: list[list[list[Guess]]] = [[] for _ in texts]
        remaining = Counter(text.line for text in texts)
        lengths = np.array([len(text.ids) + 1 for text in texts], np.int64)
        for rows in plan_in_order(lengths, lengths, self._batch_tokens):
            guesses = self._guess([texts[row] for row in rows], top)
            for row, each in zip(rows.tolist(), guesses, strict=True):
                found[row] = each
                line = texts[row].line
                remaining[line] -= 1
                on_progress(int(not remaining[line]))
        return found

    def encode(self, lines: Sequence[bytes]) -> list[list[int]]:
        """Return the ids of each line, with or without masks."""
        return encode_masked(clean_lines(lines)[0], self._tokenizer, available_cores())

    @torch.inference_mode()
    def attention(self, ids: Sequence[int]) -> dict[str, FloatArray]:
        """Return the attention in one text by kind, shape (layers, heads, rows, columns)."""
        batch = pad_texts([ids], [[0]], self._tokenizer.eos_id).to(self._precision.device)
        record = AttentionRecord()
        with self._precision.autocast():
            self._model(batch, record)
        return {kind: weights[0].float().cpu().numpy()
                for kind, weights in record.by_kind().items()}  # fmt: skip

    def _cut(self, line: int, ids: list[int]) -> list[_Text]:
        """Return a line as one text, or, if it is too long, overlapping parts with all its masks.

        A part begins half a part after the one before; a mask is filled in that part in whose
        middle half it stands.
        """
        places = [place for place, number in enumerate(ids) if number == self._mask_id]
        if len(ids) <= self.max_ids:
            return [_Text(line, ids, places)]
        prefix = self._tokenizer.prefix
        bare, width = ids[len(prefix) :], self.max_ids - len(prefix)
        half = width // 2
        parts: dict[int, list[int]] = {}  # by start
        for place in (place - len(prefix) for place in places):
            start = min(max(0, place - width // 4) // half * half, len(bare) - width)
            parts.setdefault(start, []).append(len(prefix) + place - start)
        return [_Text(line, [*prefix, *bare[start : start + width]], own)
                for start, own in parts.items()]  # fmt: skip

    @torch.inference_mode()
    def _guess(self, texts: Sequence[_Text], top: int) -> list[list[list[Guess]]]:
        """Return the guesses for each mask of each text."""
        batch = pad_texts(
            [text.ids for text in texts], [text.places for text in texts], self._tokenizer.eos_id
        )
        with self._precision.autocast():
            predictions = self._model(batch.to(self._precision.device))
        features = predictions.features.float()[predictions.targets != IGNORE_INDEX]
        rows = max(1, MOST_LOGITS // self._tokenizer.vocab_size)
        parts = [self._largest(chunk, top) for chunk in features.split(rows)]
        probabilities = torch.cat([part[0] for part in parts]).tolist()
        ids = torch.cat([part[1] for part in parts]).tolist()
        words = {number: self._word(number) for row in ids for number in row}
        guesses = iter(
            [Guess(words[number], share) for number, share in zip(row, shares, strict=True)]
            for row, shares in zip(ids, probabilities, strict=True)
        )
        return [[next(guesses) for _ in text.places] for text in texts]

    def _largest(self, features: Tensor, top: int) -> tuple[Tensor, Tensor]:
        """Return the probabilities and ids (N,top) of the likeliest words for features (N,D)."""
        shares = self._model.output(features).softmax(dim=-1)
        shares = shares.masked_fill(~self._is_word.to(shares.device), -1.0)
        probabilities, ids = shares.topk(top)
        return probabilities.cpu(), ids.cpu()

    def _word(self, number: int) -> str:
        """Return a piece as one line of readable text; what is none is shown as the piece."""
        (text,), (piece,) = self._tokenizer.decode([[number]]), self._tokenizer.pieces([number])
        if not text or BYTE_PIECES.fullmatch(piece):  # a space alone, or a byte of a character
            text = piece
        elif not (self._begins_word[number] or text.startswith(CONTINUES) or UNSPACED.match(text)):
            text = CONTINUES + text
        return text if text.isprintable() else text.encode("unicode_escape").decode()
