"""The translator around protected spans, with an engine that copies what it reads."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from mtrain.config.decoding import DecodingConfig
from mtrain.config.tokenizer import TokenizerConfig
from mtrain.decoding.documents import DocumentTranslator
from mtrain.decoding.engine import Engine, Found, Place
from mtrain.decoding.hypothesis import Hypothesis
from mtrain.decoding.stream import LineTally
from mtrain.decoding.translator import Translator
from mtrain.errors import UserError
from mtrain.text.protection import PIECES, RESERVED, Protection
from mtrain.text.tokenizer import SEPARATOR, TokenizerPair, train_tokenizer

PROTECTION = Protection.of(["placeholders", "tags", "urls"])
LINES = [
    "ant {a} bee {b} and {a}",
    "",
    '<a href="x y z"> cat </a>',
    "dog",
    "<p2> elk {never seen} {seen}",
    "https://a.de/x?y=1: fox",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizers with and without the pieces of protected spans."""
    folder = tmp_path_factory.mktemp("tokenizers")
    texts = ["ant bee cat dog elk fox and never seen"] * 9
    for name, symbols in (("with", PIECES), ("without", ())):
        (folder / name).mkdir()
        config = TokenizerConfig(vocab_size=310, symbols=(SEPARATOR, "<2x>", *symbols))
        train_tokenizer(texts, config, folder / name / "shared.model")
    return folder


@pytest.fixture
def tokenizers(folder: Path) -> TokenizerPair:
    pair = TokenizerPair.load(folder / "with").with_prefixes((["<2x>"], []))
    return pair.protecting(PROTECTION)


class Copying(Engine):
    """Copies each source without its prefix, as often as asked, without some pieces."""

    def __init__(self, max_positions: int = 100, copies: int = 1, drops: int | None = None) -> None:
        super().__init__(DecodingConfig(), max_positions, torch.device("cpu"))
        self._copies = copies
        self._drops = drops
        self.ids: list[list[int]] = []
        self.texts: list[str] = []

    def search(
        self,
        sources: Sequence[list[int]],
        texts: Sequence[str] = (),
        places: Sequence[Place] = (),
    ) -> Iterator[Found]:
        """Yield the copies, last source first."""
        self.ids += sources
        self.texts += texts
        for number, ids in reversed(list(enumerate(sources))):
            kept = [token for token in ids[1:] if token != self._drops]
            yield number, [Hypothesis(kept, 0.0)] * self._copies


def encoded(lines: Sequence[str]) -> list[bytes]:
    return [line.encode() for line in lines]


def test_a_model_reads_pieces_and_features_are_of_the_text_itself(
    tokenizers: TokenizerPair,
) -> None:
    engine = Copying()
    found = Translator(engine, tokenizers, 1).translate(encoded(LINES))
    assert [each.text for each in found] == LINES
    assert not any(each.num_lost or each.num_unexpected for each in found)
    assert engine.texts == list(filter(None, LINES))
    read = tokenizers.source.decode(engine.ids)
    assert read[:2] == ["ant <p1> bee <p2> and <p1>", "<p1> cat <p2>"]
    assert "{never seen}" in read[3]  # which is text


def test_a_line_in_parts_is_restored_as_a_whole(tokenizers: TokenizerPair) -> None:
    line = " ".join(f"ant {{name_{number}}} bee" for number in (1, 2, 3, 1, 2, 3, 4, 1))
    engine = Copying(max_positions=12)
    [found] = Translator(engine, tokenizers, 1).translate(encoded([line]))
    assert found.num_segments > 3
    assert found.text == line
    assert " ".join(engine.texts) == line  # features of the parts


def test_lost_spans_are_counted_by_line_in_the_tally(tokenizers: TokenizerPair) -> None:
    engine = Copying(copies=2, drops=tokenizers.source.id_of("<p2>"))
    found = Translator(engine, tokenizers, 2).translate(encoded(LINES))
    assert [each.num_lost for each in found] == [1, 0, 1, 0, 1, 0]
    assert [text.split() for text in found[0].texts] == [["ant", "{a}", "bee", "and", "{a}"]] * 2
    tally, silent = LineTally(lost=0), LineTally()
    for each in found:
        tally.note(each)
        silent.note(each)
    assert str(tally).endswith(", 3 that lack a span of data.protect")
    assert "data.protect" not in str(silent)


def test_pieces_of_spans_that_a_line_has_not_are_removed(tokenizers: TokenizerPair) -> None:
    class Adding(Copying):
        def search(
            self,
            sources: Sequence[list[int]],
            texts: Sequence[str] = (),
            places: Sequence[Place] = (),
        ) -> Iterator[Found]:
            more = tokenizers.target.encode([" <p7> fox"])[0]
            for number, [found] in super().search(sources, texts):
                yield number, [Hypothesis([*found.tokens, *more], 0.0)]

    for each, line in zip(Translator(Adding(), tokenizers, 1).translate(encoded(LINES)), LINES,
                          strict=True):  # fmt: skip
        assert each.text == (f"{line} fox" if line else "")
        assert each.num_unexpected == bool(line)


def test_each_line_of_a_chunk_has_its_own_spans(tokenizers: TokenizerPair) -> None:
    lines = ["{a} ant", "bee {b}", "", "{c} {a}", "dog"]
    engine = Copying()
    translator = DocumentTranslator(engine, tokenizers, 60, DecodingConfig())
    found = translator.translate(encoded(lines), [0] * len(lines))
    assert [each.text for each in found] == lines
    assert len(engine.ids) == 1
    assert tokenizers.source.decode(engine.ids)[0].count("<p1>") == 3
    dropping = Copying(drops=tokenizers.source.id_of("<p1>"))
    found = DocumentTranslator(dropping, tokenizers, 60, DecodingConfig()).translate(
        encoded(lines), [0] * len(lines)
    )
    assert [each.num_lost for each in found] == [1, 1, 0, 1, 0]
    assert found[3].text == "{a}"


def test_without_protection_pieces_are_text(folder: Path) -> None:
    plain = TokenizerPair.load(folder / "with").with_prefixes((["<2x>"], []))
    engine = Copying()
    found = Translator(engine, plain, 1).translate(encoded(["<p1> ant {a} <p5>"]))
    assert found[0].text == "<p1> ant {a} <p5>"
    assert RESERVED.search(found[0].text)


def test_a_vocabulary_without_the_pieces_protects_nothing(folder: Path) -> None:
    with pytest.raises(UserError, match="has no pieces <p1> to <p8>") as caught:
        TokenizerPair.load(folder / "without").protecting(PROTECTION)
    assert caught.value.hint is not None
    assert f"tokenizer.symbols: [{', '.join(PIECES)}]" in caught.value.hint
