"""Translates buffers of lines: tokenise, sort by length, search in batches, put back in order.

Knows the model contract, no model by name.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from mtrain.config.schema import DecodingConfig
from mtrain.data.batches import pad
from mtrain.data.plan import plan_in_order
from mtrain.decoding.beam import beam_search
from mtrain.decoding.hypothesis import Hypothesis, Scoring
from mtrain.decoding.sampling import sample_search
from mtrain.decoding.splitting import join_segments, split_pieces
from mtrain.models.base import Head, Model
from mtrain.text.lines import clean_line, decode_line, one_line
from mtrain.text.tokenizer import WORD_START, TokenizerPair, available_cores

EXTRA_LENGTH = 10  # tokens that any output may have beyond max_length_ratio


@dataclass(frozen=True)
class Translation:
    """One line's translations, best first; an empty line has empty ones."""

    texts: list[str]
    scores: list[float]
    is_empty: bool = False
    num_segments: int = 1
    is_cut_off: bool = False
    is_valid_text: bool = True  # False: bytes that are not UTF-8 were replaced
    segments: Sequence[tuple[list[int], list[int]]] = ()  # ids of each, and of its best hypothesis


@dataclass(frozen=True)
class _Segment:
    """A line, or a part of one, as the model reads it."""

    line: int
    ids: list[int]
    starts_word: bool


class Translator:
    """A model with all that it needs to translate text."""

    def __init__(
        self,
        model: Model,
        tokenizers: TokenizerPair,
        decoding: DecodingConfig,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[None]],
        seed: int,
        head: Head,
    ) -> None:
        self._model = model
        self._tokenizers = tokenizers
        self._decoding = decoding
        self._scoring = Scoring.of(decoding, head)
        self._device = device
        self._autocast = autocast
        self._generator = torch.Generator(device).manual_seed(seed)
        self.num_tokens = 0  # translated so far, end marks included

    def translate(
        self, lines: Sequence[bytes], on_progress: Callable[[int], None] = lambda lines: None
    ) -> list[Translation]:
        """Return the translation of each line; `on_progress` hears how many more are done."""
        texts, validity = zip(*map(decode_line, lines), strict=True) if lines else ((), ())
        cleaned = [clean_line(text) for text in texts]
        segments = self._segment(cleaned)
        hypotheses = self._search(segments, on_progress)
        per_line: dict[int, list[int]] = {}
        for number, segment in enumerate(segments):
            per_line.setdefault(segment.line, []).append(number)
        on_progress(len(lines) - len(per_line))
        n_best = self._decoding.n_best
        translations = []
        for line, is_valid in enumerate(validity):
            numbers = per_line.get(line)
            if numbers is None:
                empty = Translation([""] * n_best, [0.0] * n_best, True, 0, False, is_valid)
                translations.append(empty)
            else:
                parts = [segments[number] for number in numbers]
                found = [hypotheses[number] for number in numbers]
                translations.append(self._join(parts, found, is_valid))
        return translations

    def _segment(self, texts: Sequence[str]) -> list[_Segment]:
        tokenizer = self._tokenizers.source
        max_ids = self._model.max_positions - 1
        segments = []
        for line, ids in enumerate(tokenizer.encode(texts, available_cores())):
            if len(ids) <= max_ids:
                segments += [_Segment(line, ids, True)] if ids else []
                continue
            pieces = tokenizer.pieces(ids)
            start = 0
            for end in split_pieces(pieces, max_ids):
                segments.append(
                    _Segment(line, ids[start:end], pieces[start].startswith(WORD_START))
                )
                start = end
        return segments

    def _search(
        self, segments: Sequence[_Segment], on_progress: Callable[[int], None]
    ) -> dict[int, list[Hypothesis]]:
        """Return the hypotheses of each segment, found in batches of similar lengths."""
        remaining = Counter(segment.line for segment in segments)
        lengths = np.array([len(segment.ids) + 1 for segment in segments], dtype=np.int64)
        num_hypotheses = (
            self._decoding.beam_size if self._decoding.method == "beam" else self._decoding.n_best
        )
        budget = max(1, self._decoding.batch_tokens // num_hypotheses)
        found: dict[int, list[Hypothesis]] = {}
        for rows in plan_in_order(lengths, lengths, budget):
            batch = [segments[row] for row in rows]
            found.update(zip(rows.tolist(), self._search_batch(batch), strict=True))
            remaining.subtract(segment.line for segment in batch)
            done = {segment.line for segment in batch if not remaining[segment.line]}
            on_progress(len(done))
        return found

    def _search_batch(self, segments: Sequence[_Segment]) -> list[list[Hypothesis]]:
        end_id = self._tokenizers.source.end_id
        source = pad([[*s.ids, end_id] for s in segments], end_id).to(self._device)
        lengths = torch.tensor([len(s.ids) + 1 for s in segments], device=self._device)
        options = self._decoding
        longest = self._model.max_positions - 1
        limits = [
            min(longest, int(options.max_length_ratio * len(s.ids)) + EXTRA_LENGTH)
            for s in segments
        ]
        marks = self._tokenizers.target.start_id, self._tokenizers.target.end_id
        self._model.eval()
        with torch.inference_mode(), self._autocast():
            if options.method == "beam":
                found = beam_search(
                    self._model, source, lengths, limits, marks,
                    options.beam_size, self._scoring,
                )  # fmt: skip
            else:
                found = sample_search(
                    self._model, source, lengths, limits, marks,
                    options.n_best, self._scoring,
                    options.temperature, options.top_k, options.top_p, self._generator,
                )  # fmt: skip
        self.num_tokens += sum(len(hypotheses[0].tokens) + 1 for hypotheses in found)
        return [self._exactly_n_best(hypotheses) for hypotheses in found]

    def _exactly_n_best(self, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
        """Return n_best hypotheses; a search that found fewer repeats its last."""
        n_best = self._decoding.n_best
        return (hypotheses + hypotheses[-1:] * n_best)[:n_best]

    def _join(
        self, segments: Sequence[_Segment], found: Sequence[list[Hypothesis]], is_valid: bool
    ) -> Translation:
        """Put a line's segments together, the i-th best of each for the i-th best line."""
        starts_word = [segment.starts_word for segment in segments]
        texts, scores = [], []
        for ranked in zip(*found, strict=True):
            parts = self._tokenizers.target.decode([hypothesis.tokens for hypothesis in ranked])
            texts.append(one_line(join_segments(parts, starts_word)))
            scores.append(sum(hypothesis.score for hypothesis in ranked))
        is_cut_off = any(hypotheses[0].cut_off for hypotheses in found)
        pairs = [(segment.ids, hypotheses[0].tokens)
                 for segment, hypotheses in zip(segments, found, strict=True)]  # fmt: skip
        return Translation(texts, scores, False, len(segments), is_cut_off, is_valid, pairs)
