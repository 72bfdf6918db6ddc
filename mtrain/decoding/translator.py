"""Translates buffers of lines: tokenise, split, search with an engine, restore the order."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mtrain.decoding.engine import Engine, Place
from mtrain.decoding.hypothesis import Hypothesis
from mtrain.decoding.splitting import join_segments, split_pieces
from mtrain.text.lines import clean_lines, one_line
from mtrain.text.links import Link
from mtrain.text.protection import Contents, Masked, restore
from mtrain.text.tokenizer import WORD_START, TokenizerPair, available_cores


@dataclass(frozen=True)
class Translation:
    """The translations of one line, best first; those of an empty line are empty."""

    texts: list[str]
    scores: list[float]
    is_empty: bool = False
    num_segments: int = 1
    is_cut_off: bool = False
    is_valid_text: bool = True  # False if bytes that are not UTF-8 were replaced
    segments: Sequence[tuple[list[int], list[int]]] = ()  # (source, best target) ids of each
    links: frozenset[Link] | None = None  # of line and best text, by word; None if not requested
    is_from_mismatch: bool = False  # True if its chunk was translated in vain, and it then alone
    num_tokens: int = 0  # of the best text, without marks and a target prefix
    num_lost: int = 0  # protected spans of the line that the best text lacks
    num_unexpected: int = 0  # pieces that stand for no span of the line, removed from the text

    @property
    def text(self) -> str:
        """The best translation."""
        return self.texts[0]

    @property
    def score(self) -> float:
        """The score of the best translation; 0 for greedy search, which computes none."""
        return self.scores[0]


@dataclass(frozen=True)
class _Segment:
    """A line, or a part of one, that the model reads at once."""

    line: int
    number: int  # in its line
    ids: list[int]
    starts_word: bool
    text: str


class Translator:
    """Translates text with an engine and tokenizers."""

    def __init__(self, engine: Engine, tokenizers: TokenizerPair, n_best: int) -> None:
        self._engine = engine
        self._tokenizers = tokenizers
        self._n_best = n_best
        self._separators = tokenizers.source.find_separator(), tokenizers.target.find_separator()
        self.num_tokens = 0  # target tokens so far, end marks included

    def translate(
        self,
        lines: Sequence[bytes],
        on_progress: Callable[[int], None] = lambda lines: None,
        numbers: Sequence[int] | None = None,
    ) -> list[Translation]:
        """Return the translation of each line; tell `on_progress` how many more lines are done.

        Samples of a line depend on its number in the text; `numbers` count from 0 by default.
        """
        cleaned, validity = clean_lines(lines)
        masked = list(map(self._tokenizers.protection.protect, cleaned))
        segments = self._segment(cleaned, masked)
        numbers = range(len(lines)) if numbers is None else numbers
        places = [(numbers[segment.line], segment.number) for segment in segments]
        hypotheses = self._search(segments, places, on_progress)
        per_line: dict[int, list[int]] = {}
        for number, segment in enumerate(segments):
            per_line.setdefault(segment.line, []).append(number)
        on_progress(len(lines) - len(per_line))
        n_best = self._n_best
        translations = []
        for line, is_valid in enumerate(validity):
            numbers = per_line.get(line)
            if numbers is None:
                empty = Translation([""] * n_best, [0.0] * n_best, True, 0, False, is_valid)
                translations.append(empty)
            else:
                parts = [segments[number] for number in numbers]
                found = [hypotheses[number] for number in numbers]
                translations.append(self._join(parts, found, is_valid, masked[line].contents))
        return translations

    def _segment(self, texts: Sequence[str], masked: Sequence[Masked]) -> list[_Segment]:
        tokenizer = self._tokenizers.source
        prefix, max_ids = tokenizer.prefix, self._engine.max_ids
        segments = []
        read = [each.text for each in masked]
        for line, ids in enumerate(tokenizer.encode(read, available_cores())):
            if len(ids) <= max_ids:
                segments += [_Segment(line, 0, ids, True, texts[line])] if ids else []
                continue
            bare = ids[len(prefix) :]
            pieces = tokenizer.pieces(bare)
            start = 0
            for number, end in enumerate(split_pieces(pieces, max_ids - len(prefix))):
                starts_word = pieces[start].startswith(WORD_START)
                part = [*prefix, *bare[start:end]]
                (text,) = tokenizer.decode([part])
                contents = masked[line].contents
                whole = text if contents is None else contents.fill(text)
                segments.append(_Segment(line, number, part, starts_word, whole))
                start = end
        return segments

    def _search(
        self,
        segments: Sequence[_Segment],
        places: Sequence[Place],
        on_progress: Callable[[int], None],
    ) -> dict[int, list[Hypothesis]]:
        """Return n_best hypotheses of each segment by its index."""
        remaining = Counter(segment.line for segment in segments)
        found: dict[int, list[Hypothesis]] = {}
        ids, texts = ([getattr(segment, name) for segment in segments] for name in ("ids", "text"))
        for number, hypotheses in self._engine.search(ids, texts, places):
            # if the search found fewer, repeat the last one
            found[number] = (hypotheses + hypotheses[-1:] * self._n_best)[: self._n_best]
            self.num_tokens += len(hypotheses[0].tokens) + 1
            line = segments[number].line
            remaining[line] -= 1
            on_progress(int(not remaining[line]))
        return found

    def _join(
        self,
        segments: Sequence[_Segment],
        found: Sequence[list[Hypothesis]],
        is_valid: bool,
        contents: Contents | None,
    ) -> Translation:
        """Join a line's segments: the i-th best hypotheses of all make the i-th best line."""
        starts_word = [segment.starts_word for segment in segments]
        restored, scores = [], []
        for ranked in zip(*found, strict=True):
            parts = self._tokenizers.target.decode(
                [self._without_separators(segment, hypothesis)
                 for segment, hypothesis in zip(segments, ranked, strict=True)]
            )  # fmt: skip
            restored.append(restore(one_line(join_segments(parts, starts_word)), contents))
            scores.append(sum(hypothesis.score for hypothesis in ranked))
        is_cut_off = any(hypotheses[0].cut_off for hypotheses in found)
        prefix = self._tokenizers.target.prefix
        pairs = [(segment.ids, [*prefix, *hypotheses[0].tokens])
                 for segment, hypotheses in zip(segments, found, strict=True)]  # fmt: skip
        return Translation(
            [each.text for each in restored], scores, False, len(segments), is_cut_off, is_valid,
            pairs, num_tokens=sum(len(hypotheses[0].tokens) for hypotheses in found),
            num_lost=restored[0].num_lost, num_unexpected=restored[0].num_unexpected,
        )  # fmt: skip

    def _without_separators(self, segment: _Segment, hypothesis: Hypothesis) -> list[int]:
        """Return the tokens; one line has no second sentence, unless its text has separators."""
        tokens, (source, target) = hypothesis.tokens, self._separators
        if target is None or source in segment.ids:
            return tokens
        return [token for token in tokens if token != target]
