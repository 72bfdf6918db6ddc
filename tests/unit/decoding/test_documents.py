"""Documents: one translation for each line, in order, whatever the model does with separators."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrain.config.decoding import DecodingConfig
from mtrain.config.tokenizer import TokenizerConfig
from mtrain.decoding.chunks import plan_chunks
from mtrain.decoding.document_stream import (
    numbered_by_empty_lines,
    numbered_by_ids,
    whole_documents,
)
from mtrain.decoding.documents import DocumentTranslator
from mtrain.decoding.engine import Engine, Found, Place
from mtrain.decoding.hypothesis import Hypothesis
from mtrain.decoding.stream import LineTally
from mtrain.errors import UserError
from mtrain.text.tokenizer import SEPARATOR, TokenizerPair, train_tokenizer

WORDS = ["ant", "bee", "cat", "dog", "elk", "fox"]
BUDGET = 30


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> TokenizerPair:
    folder = tmp_path_factory.mktemp("tokenizer")
    config = TokenizerConfig(vocab_size=310, symbols=(SEPARATOR, "<2x>"))
    train_tokenizer([" ".join(WORDS)] * 9, config, folder / "shared.model")
    return TokenizerPair.load(folder).with_prefixes((["<2x>"], []))


class CopyingEngine(Engine):
    """Copies each source; what has separators it spoils in the ways it is told to."""

    def __init__(self, tokenizers: TokenizerPair, *ways: str) -> None:
        super().__init__(DecodingConfig(), 64, torch.device("cpu"))
        self._separator = tokenizers.source.separator_id
        self._ways = ways
        self.asked: list[list[int]] = []

    def search(
        self,
        sources: Sequence[list[int]],
        texts: Sequence[str] = (),
        places: Sequence[Place] = (),
    ) -> Iterator[Found]:
        """Yield the copies, last source first."""
        self.asked += sources
        for number, ids in reversed(list(enumerate(sources))):
            tokens, is_cut_off = ids[1:], False
            if self._separator in tokens and self._ways:
                place = tokens.index(self._separator)
                way = self._ways[number % len(self._ways)]
                if way == "one less":
                    del tokens[place]
                elif way == "one more":
                    tokens.insert(0, self._separator)
                elif way == "two together":
                    tokens[:place] = []
                elif way == "nothing":
                    tokens = []
                elif way == "cut off":
                    is_cut_off = True
            yield number, [Hypothesis(tokens, 0.0, is_cut_off)]


SPOILT = ("one less", "one more", "two together", "nothing", "cut off", "as it is")


def text(num_lines: int, seed: int = 1) -> list[bytes]:
    """Return lines of a few words, some of them empty, one longer than the budget."""
    generator = random.Random(seed)
    lines = [" ".join(generator.choices(WORDS, k=generator.randint(1, 4))).encode()
             if generator.random() < 0.9 else b"" for _ in range(num_lines)]  # fmt: skip
    lines[num_lines // 2] = b" ".join([b"fox"] * 40)
    return lines


def translate(
    engine: Engine, tokenizers: TokenizerPair, lines: list[bytes], documents: list[int], **keys: Any
) -> Any:
    decoding = DecodingConfig.model_validate(keys)
    done: list[int] = []
    translator = DocumentTranslator(engine, tokenizers, BUDGET, decoding)
    translations = translator.translate(lines, documents, done.append)
    assert sum(done) == len(lines)
    return translations


@pytest.mark.parametrize("overlap", [0, 2])
@pytest.mark.parametrize("ways", [(), *((way,) for way in SPOILT), SPOILT])
def test_every_line_has_its_translation_whatever_the_model_does(
    ways: tuple[str, ...], overlap: int, tokenizers: TokenizerPair
) -> None:
    lines = text(200)
    ((_, documents),) = numbered_by_empty_lines([lines])
    engine = CopyingEngine(tokenizers, *ways)
    found = translate(engine, tokenizers, lines, documents, context_overlap=overlap)
    assert [each.text.encode() for each in found] == lines
    tally = LineTally(mismatched=0)
    for each in found:
        tally.note(each)
    assert (tally.lines, tally.empty) == (200, lines.count(b""))
    assert tally.mismatched is not None
    assert (tally.mismatched > 0) is bool(set(ways) - {"as it is"})
    assert f"{tally.mismatched} alone" in str(tally)
    assert all(len(ids) < BUDGET or tokenizers.source.separator_id not in ids
               for ids in engine.asked)  # fmt: skip


def test_chunks_may_be_shorter_than_those_that_were_learnt(tokenizers: TokenizerPair) -> None:
    lines, engine = [b"ant bee"] * 12, CopyingEngine(tokenizers)
    found = translate(engine, tokenizers, lines, [0] * 12, context_tokens=12)
    assert [each.text.encode() for each in found] == lines
    assert {len(ids) < 12 for ids in engine.asked} == {True}
    assert len(engine.asked) > 3


def test_a_line_that_has_the_separator_and_bytes_that_are_no_text_are_kept(
    tokenizers: TokenizerPair,
) -> None:
    lines = [b"ant", b"bee <sep> cat", b"dog", b"elk \xff", b"fox"]
    found = translate(CopyingEngine(tokenizers), tokenizers, lines, [0] * 5)
    texts = [each.text for each in found]
    assert texts[0::2] == ["ant", "dog", "fox"]
    assert SEPARATOR in texts[1]
    assert [each.is_valid_text for each in found] == [True, True, True, False, True]


def test_chunks_are_as_long_as_they_may_be_with_the_lines_before_them() -> None:
    chunks = plan_chunks([4, 4, 0, 4, 4, 30, 4, 4], [0] * 7 + [1], 12, overlap=2)
    assert [(chunk.context, chunk.lines) for chunk in chunks] == [
        ([], [0, 1, 3]), ([1, 3], [4]), ([], [5]), ([], [6]), ([], [7]),
    ]  # fmt: skip


def test_what_is_translated_together_does_not_depend_on_how_lines_arrive() -> None:
    lines = [b"x"] * 3 + [b""] + [b"y"] * 25 + [b"", b""] + [b"z"] * 10
    numbered = []
    for size in (1, 2, 7, 100):
        blocks = [lines[start : start + size] for start in range(0, len(lines), size)]
        found = list(whole_documents(numbered_by_empty_lines(blocks), 10))
        assert [line for block, _ in found for line in block] == lines
        assert max(len(block) for block, _ in found) < 10 + size
        assert all(one[-1] < other[0] for (_, one), (_, other) in pairwise(found))
        numbered.append([number for _, numbers in found for number in numbers])
    assert numbered[0] == [0] * 3 + [1] * 10 + [2] * 10 + [3] * 6 + [4] + [5] * 10 + [6]
    assert numbered == [numbered[0]] * 4


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ("a\nb\n", "ids has 2 lines but in.txt has more"),
        ("a\nb\nb\nb\n", "ids has 4 lines but in.txt has 3"),
        ("a\nb\t2\n", "ids:2: a tab after document b"),
        ("a\nb\na\n", "ids:3: document a comes back after another one; it began in line 1"),
        ("a\n\na\n", "ids:2: no document id"),
    ],
)
def test_ids_that_do_not_fit_the_text_are_refused(ids: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.write_text(ids)
    with pytest.raises(UserError) as caught:
        list(numbered_by_ids([[b"1", b"2"], [b"3"]], path, "in.txt"))
    assert error in str(caught.value)
