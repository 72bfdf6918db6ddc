"""The tokenizer: any text in and the same text out, never an unknown token, and its training."""

import random
import sys
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from mtrain.config.tokenizer import TokenizerConfig
from mtrain.errors import UserError
from mtrain.text.lines import clean_bytes, clean_target
from mtrain.text.tokenizer import (
    WORD_START,
    Tokenizer,
    TokenizerPair,
    train_tokenizer,
    word_numbers,
)
from mtrain.text.tokenizer_model import append_symbols
from tests.traps import Trap, every_trap

SYLLABLES = [consonant + vowel for consonant in "bdkl" for vowel in "aeiou"]
KINDS = ("bpe", "unigram")
MARKS = {"<pad>": 0, "<unk>": 1, "<s>": 2, "</s>": 3}


def sentences(count: int, seed: int = 1) -> list[str]:
    """Return sentences of many words, made of few syllables."""
    generator = random.Random(seed)

    def word() -> str:
        return "".join(generator.choices(SYLLABLES, k=generator.randint(1, 4)))

    return [" ".join(word() for _ in range(generator.randint(3, 9))) for _ in range(count)]


def train(path: Path, **keys: Any) -> Tokenizer:
    """Train a tokenizer that keeps every character, on sentences of syllables."""
    config = TokenizerConfig(**{"vocab_size": 400, "normalization": "identity", **keys})
    assert train_tokenizer(sentences(1000), config, path) == config.vocab_size
    return Tokenizer(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """A BPE and a unigram tokenizer."""
    folder = tmp_path_factory.mktemp("tokenizers")
    return {kind: train(folder / f"{kind}.model", type=kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest, trained: dict[str, Tokenizer]) -> Tokenizer:
    """One after the other."""
    return trained[request.param]


@every_trap
def test_any_text_comes_back_as_it_went_in(trap: Trap, tokenizer: Tokenizer) -> None:
    text = clean_bytes(trap.raw)
    [ids] = tokenizer.encode([text])
    assert not set(ids) & set(MARKS.values())  # not even from text that spells a mark
    # the one character that SentencePiece keeps to itself comes back as the space it stands for
    assert tokenizer.decode([ids]) == [text.replace(WORD_START, " ")]


def test_a_text_stands_for_itself_whatever_its_neighbours(tokenizer: Tokenizer) -> None:
    texts = ["", *sentences(50, seed=2), "", "\U0001f600 grün"]
    together = tokenizer.encode(texts, num_threads=3)
    assert together == [tokenizer.encode([text])[0] for text in texts]
    assert tokenizer.decode(together) == texts
    assert together[0] == []


def test_characters_never_seen_are_spelled_in_bytes(tokenizer: Tokenizer) -> None:
    [ids] = tokenizer.encode(["猫"])
    assert tokenizer.pieces(ids)[-3:] == ["<0xE7>", "<0x8C>", "<0xAB>"]


def test_the_marks_are_where_the_models_expect_them(tokenizer: Tokenizer) -> None:
    assert tokenizer.pieces(list(MARKS.values())) == list(MARKS)
    assert (tokenizer.bos_id, tokenizer.eos_id) == (MARKS["<s>"], MARKS["</s>"])
    assert tokenizer.vocab_size == 400


def test_nfkc_unifies_forms_and_drops_the_invisible(tmp_path: Path) -> None:
    tokenizer = train(tmp_path / "a.model", normalization="nmt_nfkc")
    ids = tokenizer.encode(["ﬁ ½", "ba\u200bba", "\u200b"])
    assert tokenizer.decode(ids) == ["fi 1\u20442", "ba ba", ""]


@pytest.mark.parametrize("seen", [False, True], ids=["never seen", "learnt"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_default_keeps_every_character_of_a_target(
    kind: str, seen: bool, tmp_path: Path
) -> None:
    kept = "\u00a0\u2007\u2009\u202f\u3000\u200b\u200c\u200d\u2060\u00ad，？：（）ﬁ½Ａ"
    texts = [pattern.replace("_", space) for space in kept
             for pattern in ("ba_da", "ba _da", "ba_ da", "ba _ da", "ba__da")]  # fmt: skip
    config = TokenizerConfig.model_validate({"vocab_size": 500, "type": kind})
    train_tokenizer(sentences(1000) + seen * texts, config, tmp_path / "a.model")
    tokenizer = Tokenizer(tmp_path / "a.model")
    assert [clean_target(text.encode()) for text in texts] == texts
    assert tokenizer.decode(tokenizer.encode(texts)) == texts


def test_training_twice_gives_the_same_bytes(trained: dict[str, Tokenizer], tmp_path: Path) -> None:
    for kind, tokenizer in trained.items():
        again = train(tmp_path / f"{kind}.model", type=kind)
        assert again.path.read_bytes() == tokenizer.path.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_too_large_is_lowered_with_a_warning(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TokenizerConfig.model_validate({"type": kind, "vocab_size": 8000})
    size = train_tokenizer(sentences(30), config, tmp_path / "a.model")
    assert 260 < size < 8000
    assert Tokenizer(tmp_path / "a.model").vocab_size == size
    said = capsys.readouterr().err
    assert f"warning: tokenizer.vocab_size lowered from 8000 to {size}" in said
    assert "30 training sentences" in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_too_small_for_the_characters_is_named(kind: str, tmp_path: Path) -> None:
    characters = "".join(map(chr, range(0x4E00, 0x4E00 + 400)))
    config = TokenizerConfig.model_validate({"type": kind, "vocab_size": 300})
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size 300 is too small: .* take 66\d"):
        train_tokenizer([characters] * 20, config, tmp_path / "a.model")


@pytest.mark.parametrize("texts", [[], ["x" * 20_000]], ids=["none", "long"])
def test_text_that_nothing_can_be_learnt_from_is_refused(texts: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"cannot be trained on {len(texts)} sentences"):
        train_tokenizer(texts, TokenizerConfig(), tmp_path / "a.model")


@pytest.mark.parametrize(("kind", "rate"), [("bpe", 0.2), ("unigram", 0.2)])
def test_sampled_segmentations_depend_on_the_seed_and_on_nothing_else(
    kind: str, rate: float, trained: dict[str, Tokenizer]
) -> None:
    tokenizer, texts = trained[kind], sentences(40, seed=3)
    first = tokenizer.sample(texts, rate, seed=7)
    other = tokenizer.sample(texts, rate, seed=8)
    tokenizer.encode(texts)
    assert tokenizer.sample(texts, rate, seed=7) == first
    assert Tokenizer(tokenizer.path).sample(texts, rate, seed=7) == first
    assert other != first
    assert first != tokenizer.encode(texts)
    assert tokenizer.decode(first) == tokenizer.decode(other) == texts


@pytest.fixture
def foreign(tmp_path: Path) -> Any:
    """A trainer of SentencePiece models such as others make."""

    def make(name: str, **keys: Any) -> Path:
        with (tmp_path / name).open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences(200)),
                model_writer=file,
                **{"vocab_size": 150, "minloglevel": 2, **keys},
            )
        return tmp_path / name

    return make


def test_a_model_without_a_start_mark_starts_with_the_end_mark(foreign: Any) -> None:
    tokenizer = Tokenizer(foreign("a.model", bos_id=-1, eos_id=0, unk_id=1))
    assert tokenizer.bos_id == tokenizer.eos_id == 0
    [ids] = tokenizer.encode(["ba du"])
    assert tokenizer.decode([ids]) == ["ba du"]


def test_a_model_without_an_end_mark_is_refused_by_name(foreign: Any) -> None:
    path = foreign("a.model", eos_id=-1)
    with pytest.raises(UserError, match=r"a\.model: .* no end-of-sentence mark"):
        Tokenizer(path)


@pytest.mark.parametrize("content", [b"", b"no model", None], ids=["empty", "text", "missing"])
def test_what_is_no_model_is_refused_by_name(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.model: th\w+ is no"):
        Tokenizer(path)


def test_a_model_cut_short_is_refused_by_name(
    trained: dict[str, Tokenizer], tmp_path: Path
) -> None:
    whole = trained["bpe"].path.read_bytes()
    for size in (1, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.model").write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"cut\.model: this is not a SentencePiece model"):
            Tokenizer(tmp_path / "cut.model")


def test_a_folder_holds_one_tokenizer_for_both_sides_or_one_a_side(
    trained: dict[str, Tokenizer], tmp_path: Path
) -> None:
    bpe, unigram = (trained[kind].path.read_bytes() for kind in KINDS)
    (tmp_path / "source.model").write_bytes(bpe)
    (tmp_path / "target.model").write_bytes(unigram)
    pair = TokenizerPair.load(tmp_path)
    digest = pair.digest()
    text = sentences(1, seed=4)
    assert pair.source.encode(text) == trained["bpe"].encode(text)
    assert pair.target.encode(text) == trained["unigram"].encode(text)
    (tmp_path / "target.model").write_bytes(bpe)
    assert TokenizerPair.load(tmp_path).digest() != digest
    (tmp_path / "source.model").rename(tmp_path / "shared.model")
    shared = TokenizerPair.load(tmp_path)
    assert shared.source is shared.target
    with pytest.raises(UserError, match=r"source\.model: there is no such"):
        TokenizerPair.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("pieces", "numbers"),
    [
        ("", []),
        ("▁the ▁cat s", [0, 1, 1]),
        ("the ▁cat", [0, 1]),  # a tokenizer that puts no blank before the text
        ("▁ <0xE2> <0x98> ▁ x", [0, 0, 0, 1, 1]),
        ("▁the▁cat ▁sat", [0, 1]),  # a blank inside a piece begins nothing
    ],
)
def test_a_piece_that_starts_with_the_mark_begins_a_word(pieces: str, numbers: list[int]) -> None:
    assert word_numbers(pieces.split()) == numbers


def test_a_sentence_has_as_many_words_in_pieces_as_between_blanks(tokenizer: Tokenizer) -> None:
    for text in sentences(100, seed=2):
        [ids] = tokenizer.encode([text])
        pieces, numbers = tokenizer.pieces(ids), word_numbers(tokenizer.pieces(ids))
        words = [""] * len(text.split())
        for piece, number in zip(pieces, numbers, strict=True):
            words[number] += piece.removeprefix(WORD_START)
        assert words == text.split()


def test_a_prefix_begins_every_text_but_an_empty_one_and_is_never_printed(
    tokenizer: Tokenizer,
) -> None:
    texts = ["one two", "", "three"]
    (piece,) = tokenizer.pieces([tokenizer.encode(["one"])[0][-1]])
    prefixed = tokenizer.with_prefix([piece])
    ids = prefixed.encode(texts)
    plain = tokenizer.encode(texts)
    assert ids == [[*prefixed.prefix, *row] if row else [] for row in plain]
    assert prefixed.pieces(prefixed.prefix) == [piece]
    assert prefixed.decode(ids) == tokenizer.decode(plain)
    assert [row[:1] for row in prefixed.sample(texts, 0.5, 1)] == [
        prefixed.prefix,
        [],
        prefixed.prefix,
    ]


def test_a_prefix_must_be_a_piece(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="has no piece >>xx<<"):
        tokenizer.with_prefix([">>xx<<"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_symbol_is_never_split_whether_trained_or_appended(
    kind: str, trained: dict[str, Tokenizer], tmp_path: Path
) -> None:
    symbols = ("<2de>", "a,b", '"', "<2de>")
    given, known = trained[kind], '<2de>ba du <2de> a,b x"'
    path = tmp_path / "appended.model"
    path.write_bytes(append_symbols(given.path, symbols))
    appended = Tokenizer(path)
    for tokenizer in (appended, train(tmp_path / "new.model", type=kind, symbols=symbols)):
        [ids] = tokenizer.encode([known])
        assert [tokenizer.pieces(ids).count(symbol) for symbol in symbols] == [2, 1, 1, 2]
        assert tokenizer.decode([ids]) == [known]
    assert appended.vocab_size == given.vocab_size + 3
    assert appended.pieces(range(400)) == given.pieces(range(400))
    assert appended.pieces(range(400, 403)) == list(dict.fromkeys(symbols))
    texts = sentences(50, seed=5)
    assert appended.encode(texts) == given.encode(texts)
    assert append_symbols(given.path, ()) == given.path.read_bytes()
    path.write_bytes(append_symbols(path, ["ba", "<2de>"]))  # no piece is there twice
    again = Tokenizer(path)
    assert again.vocab_size == appended.vocab_size + ("ba" not in appended.text_pieces())
    assert again.pieces(range(403)) == appended.pieces(range(403))


@pytest.mark.parametrize("mark", ["</s>", "<unk>", "<0x41>"])
def test_a_mark_or_a_byte_is_no_symbol(mark: str, trained: dict[str, Tokenizer]) -> None:
    with pytest.raises(UserError, match=rf"symbols: {mark} is a mark or a byte of .*bpe\.model"):
        append_symbols(trained["bpe"].path, [mark])


def test_appending_without_protobuf_names_the_extra(
    trained: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(sentencepiece, "sentencepiece_model_pb2", raising=False)
    monkeypatch.setitem(sys.modules, "sentencepiece.sentencepiece_model_pb2", None)
    with pytest.raises(UserError, match=r"needs the package protobuf.*\n.*mtrain\[huggingface\]"):
        append_symbols(trained["bpe"].path, ["<x>"])
