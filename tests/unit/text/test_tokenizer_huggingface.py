"""A tokenizer.json of Hugging Face: pieces in SentencePiece's form, marks, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from mtrain.config.tokenizer import SidePaths, TokenizerConfig
from mtrain.data.vocabulary import make_tokenizers
from mtrain.errors import UserError
from mtrain.text.tokenizer import Tokenizer, TokenizerPair, word_numbers
from mtrain.text.tokenizer_model import append_symbols

WORDPIECE = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "dog", "##s", "run", ".",
             "[", "]", "sep"]  # fmt: skip
BYTE_LEVEL_MARKS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordPiece tokenizer that says, as published ones do, to cut and pad texts."""
    folder = tmp_path_factory.mktemp("wordpiece")
    (folder / "vocab.txt").write_text("\n".join(WORDPIECE) + "\n")
    model = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)
    model.enable_truncation(3)
    model.enable_padding(length=9)
    model.save(str(folder / "shared.json"))
    return folder / "shared.json"


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer, as RoBERTa's."""
    path = tmp_path_factory.mktemp("bytes") / "shared.json"
    model = tokenizers.ByteLevelBPETokenizer()
    texts = ["the dogs run", "größer \U0001f600"] * 9
    model.train_from_iterator(texts, vocab_size=320, special_tokens=BYTE_LEVEL_MARKS)
    model.save(str(path))
    return path


def test_pieces_tell_where_words_begin_and_marks_in_a_text_are_text(wordpiece: Path) -> None:
    tokenizer = Tokenizer(wordpiece)
    texts = ["Dogs run.", "", "dog [MASK] [SEP]", "xyz"]
    rows = tokenizer.encode(texts)
    assert [tokenizer.pieces(ids) for ids in rows] == [
        ["▁dog", "s", "▁run", "▁."], [], ["▁dog", "[MASK]", "▁[", "▁sep", "▁]"], ["[UNK]"],
    ]  # fmt: skip
    assert word_numbers(tokenizer.pieces(rows[0])) == [0, 0, 1, 2]
    assert tokenizer.decode(rows[:2]) == ["dogs run.", ""]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.unknown_id) == (
        2, 3, 0, 1)  # fmt: skip
    assert tokenizer.mask_id == 4
    begins = [number for number, is_so in enumerate(tokenizer.is_word_start) if is_so]
    assert begins == [5, 6, 8, 9, 10, 11, 12]
    assert tokenizer.ordinary_ids == [4, *range(6, 13)]  # the mask can stand in a text
    assert tokenizer.with_prefix(["[CLS]"]).encode(texts)[:2] == [[2, *rows[0]], []]
    assert not tokenizer.is_sentencepiece
    with pytest.raises(UserError, match="this tokenizer has no piece >>de<<"):
        tokenizer.id_of(">>de<<")
    with pytest.raises(UserError, match="subword_sampling needs a SentencePiece model"):
        tokenizer.sample(texts, 0.1, 1)


def test_any_text_comes_back_from_bytes_as_it_went_in(byte_level: Path) -> None:
    tokenizer = Tokenizer(byte_level)
    texts = ["the dogs", "größer \U0001f600 <mask>", "</s> \\x41 ▁ \u0f3c", "Ġ", "a  b"]
    rows = tokenizer.encode(texts)
    assert tokenizer.decode(rows) == texts
    assert tokenizer.pieces(rows[0]) == ["the", "▁dogs"]
    assert len(set(tokenizer.all_pieces)) == tokenizer.vocab_size
    assert tokenizer.id_of("▁dogs") == rows[0][1]
    assert tokenizer.mask_id in rows[1]
    assert "<0xF0>" in set(tokenizer.all_pieces) - tokenizer.text_pieces()


def test_a_symbol_is_appended_and_never_split(byte_level: Path, tmp_path: Path) -> None:
    given = Tokenizer(byte_level)
    config = TokenizerConfig(path=byte_level, symbols=("<2de>", "dogs"))
    pair = make_tokenizers(config, [], tmp_path / "tokenizer", lambda: [])
    assert pair.source is pair.target
    assert [path.name for path in (tmp_path / "tokenizer").iterdir()] == ["shared.json"]
    [ids] = pair.source.encode(["<2de>the dogsrun <2de>"])
    assert pair.source.pieces(ids).count("<2de>") == 2
    assert pair.source.pieces(range(given.vocab_size)) == given.all_pieces
    assert pair.source.vocab_size == given.vocab_size + 1 + ("dogs" not in given.all_pieces)
    with pytest.raises(UserError, match=r"symbols: </s> is a mark of .*shared\.json"):
        append_symbols(byte_level, ["</s>"])


def test_each_side_may_have_a_tokenizer_of_another_kind(
    byte_level: Path, wordpiece: Path, tmp_path: Path
) -> None:
    config = TokenizerConfig(path=SidePaths(source=wordpiece, target=byte_level))
    make_tokenizers(config, [], tmp_path / "tokenizer", lambda: [])
    pair = TokenizerPair.load(tmp_path / "tokenizer")
    assert (pair.source.vocab_size, pair.source.path.name) == (len(WORDPIECE), "source.json")
    assert not pair.share_a_vocabulary


def model_of(**changes: Any) -> str:
    vocabulary = {piece: number for number, piece in enumerate(WORDPIECE)}
    model = {"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]",
             "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}  # fmt: skip
    return json.dumps({"version": "1.0", "model": model | changes})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "this is not a tokenizer.json"),
        ("[]", "this is not a tokenizer.json"),
        ('{"model": 3}', "this is not a tokenizer.json"),
        ('{"model": {}, "added_tokens": [3]}', "this is not a tokenizer.json"),
        (model_of(max_input_chars_per_word=None), "this is not a tokenizer.json: "),
        (model_of(vocab={"[UNK]": 0, "[SEP]": 5}), "the ids of its 2 pieces are not 0 to 1"),
        (model_of(vocab={"[UNK]": 0, "a": 1}), "this tokenizer has no mark that ends a text"),
        (model_of(vocab={"a": 0, "[SEP]": 1}), "this tokenizer has no unknown piece"),
        (model_of(type="WordLevel"), "whose pieces do not tell where words begin"),
    ],
)
def test_what_is_no_tokenizer_or_lacks_a_mark_is_refused(
    content: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "shared.json"
    path.write_text(content)
    with pytest.raises(UserError) as refused:
        Tokenizer(path)
    assert says in str(refused.value)
    assert str(path) in str(refused.value)
    path.unlink()
    with pytest.raises(UserError, match=r"shared\.json: there is no such tokenizer"):
        Tokenizer(path)


def test_without_the_library_the_extra_is_named(
    wordpiece: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtrain.text.tokenizer.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package tokenizers.*\n.*mtrain\[huggingface\]"):
        Tokenizer(wordpiece)
