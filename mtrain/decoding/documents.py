"""Translates the lines of documents chunk by chunk, and gives back one translation for each line.

A model that has learnt chunks writes a separator for each one it reads. Where it does not, the
lines of the chunk are translated one by one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

from mtrain.config.decoding import DecodingConfig
from mtrain.decoding.chunks import Chunk, plan_chunks
from mtrain.decoding.engine import Engine
from mtrain.decoding.hypothesis import Hypothesis
from mtrain.decoding.translator import Translation, Translator
from mtrain.text.lines import clean_lines, one_line
from mtrain.text.protection import Masked, restore
from mtrain.text.tokenizer import TokenizerPair, available_cores

CHUNK = -1  # in the place of a chunk, instead of a segment's number


class DocumentTranslator:
    """Translates lines of documents with an engine and tokenizers."""

    def __init__(
        self, engine: Engine, tokenizers: TokenizerPair, budget: int, decoding: DecodingConfig
    ) -> None:
        """Translate chunks of up to `budget` source tokens, unless `decoding` says how many.

        Raises UserError if a vocabulary lacks the separator.
        """
        self._engine = engine
        self._tokenizers = tokenizers
        self._alone = Translator(engine, tokenizers, n_best=1)
        self._separators = tokenizers.source.separator_id, tokenizers.target.separator_id
        self._budget = min(decoding.context_tokens or budget, engine.max_ids + 1)
        self._overlap = decoding.context_overlap

    def translate(
        self,
        lines: Sequence[bytes],
        documents: Sequence[int],
        on_progress: Callable[[int], None] = lambda lines: None,
        numbers: Sequence[int] | None = None,
    ) -> list[Translation]:
        """Return the translation of each line; `documents` numbers the document of each.

        Tells `on_progress` how many more lines are done. Samples depend on the `numbers` of the
        lines in the text, which count from 0 by default.
        """
        numbers = range(len(lines)) if numbers is None else numbers
        masked, ids, validity = self._encode(lines)
        start = len(self._tokenizers.source.prefix)
        lengths = [len(row) - start + 1 if row else 0 for row in ids]
        is_whole = [self._separators[0] not in row for row in ids]  # else it stays alone
        planned = [length if fits else self._budget + 1
                   for length, fits in zip(lengths, is_whole, strict=True)]  # fmt: skip
        chunks = [chunk for chunk in plan_chunks(planned, documents, self._budget - start,
                  self._overlap) if len(chunk.all_lines) > 1]  # fmt: skip
        found: dict[int, Translation] = {}
        mismatched: set[int] = set()
        sources = [self._joined(chunk, ids) for chunk in chunks]
        places = [(numbers[chunk.lines[0]], CHUNK) for chunk in chunks]
        for number, (best, *_) in self._engine.search(sources, places=places):
            chunk = chunks[number]
            translations = self._split(best, chunk, masked, validity)
            found |= translations
            mismatched.update(() if translations else chunk.lines)
            on_progress(len(translations))
        rest = [line for line in range(len(lines)) if line not in found]
        alone = self._alone.translate(
            [lines[line] for line in rest], on_progress, [numbers[line] for line in rest]
        )
        for line, translation in zip(rest, alone, strict=True):
            found[line] = replace(translation, is_from_mismatch=line in mismatched)
        return [found[line] for line in range(len(lines))]

    def _encode(self, lines: Sequence[bytes]) -> tuple[list[Masked], list[list[int]], list[bool]]:
        """Return each line masked, its ids, prefix included, and whether it was valid UTF-8."""
        texts, validity = clean_lines(lines)
        masked = list(map(self._tokenizers.protection.protect, texts))
        read = [each.text for each in masked]
        return masked, self._tokenizers.source.encode(read, available_cores()), validity

    def _joined(self, chunk: Chunk, ids: Sequence[list[int]]) -> list[int]:
        """Return the ids of a chunk: one prefix, and a separator before each further line."""
        start = len(self._tokenizers.source.prefix)
        first, *others = chunk.all_lines
        return [*ids[first], *chain.from_iterable(
                    (self._separators[0], *ids[line][start:]) for line in others)]  # fmt: skip

    def _split(
        self, best: Hypothesis, chunk: Chunk, masked: Sequence[Masked], validity: Sequence[bool]
    ) -> dict[int, Translation]:
        """Return the translation of each line of a chunk, or nothing if its parts do not match."""
        parts: list[list[int]] = [[]]
        for token in best.tokens:
            if token == self._separators[1]:
                parts.append([])
            else:
                parts[-1].append(token)
        if best.cut_off or len(parts) != len(chunk.all_lines):
            return {}
        own = parts[len(chunk.context) :]
        texts = self._tokenizers.target.decode(own)
        restored = [restore(one_line(text), masked[line].contents)
                    for line, text in zip(chunk.lines, texts, strict=True)]  # fmt: skip
        if not all(each.text.strip() for each in restored):
            return {}
        return {
            line: Translation([each.text], [best.score], is_valid_text=validity[line],
                              num_tokens=len(tokens), num_lost=each.num_lost,
                              num_unexpected=each.num_unexpected)
            for line, tokens, each in zip(chunk.lines, own, restored, strict=True)
        }  # fmt: skip
