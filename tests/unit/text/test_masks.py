"""Masks in text become one id each, without the space that the masked piece has in itself."""

from pathlib import Path

import pytest
import sentencepiece

from mtrain.errors import UserError
from mtrain.text.masks import encode_masked, has_mask
from mtrain.text.tokenizer import Tokenizer

TEXT = [
    "ein Mann läuft auf der Straße",
    "un sicht bar lesbar haltbar",
    "die Frau sitzt, und liest.",
]


def train(path: Path, **options: object) -> Tokenizer:
    settings = {"vocab_size": 330, "byte_fallback": True, "model_type": "bpe", "minloglevel": 2}
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXT * 20), model_writer=file, **settings, **options
        )
    return Tokenizer(path)


@pytest.fixture(scope="module", params=["[MASK]", "<mask>"])
def tokenizer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    path = tmp_path_factory.mktemp("masks") / "m.model"
    return train(path, user_defined_symbols=[request.param], normalization_rule_name="nfkc_cf")


def around_masks(text: str, tokenizer: Tokenizer) -> list[str]:
    """Return the text between the masks of a line, as pieces."""
    (ids,) = encode_masked([text], tokenizer, 1)
    (own,) = tokenizer.pieces([tokenizer.mask_id])
    return " ".join(tokenizer.pieces(ids)).split(own)


@pytest.mark.parametrize(
    ("text", "around"),
    [
        ("Ein [MASK] läuft", ["Ein", " läuft"]),
        ("un[MASK]bar", ["un", "bar"]),
        ("[MASK] läuft", ["", " läuft"]),
        ("[MASK]bar", ["", "bar"]),
        ("ein [MASK], [MASK].", ["ein", ",", "."]),
        ("ein [MASK][MASK]", ["ein", "", ""]),
        ("[MASK]", ["", ""]),
        ("ein Mann", ["ein Mann"]),
        ("", [""]),
    ],
)
def test_a_mask_stands_for_a_piece_with_the_space_before_it(
    text: str, around: list[str], tokenizer: Tokenizer
) -> None:
    for written in (text, text.replace("[MASK]", tokenizer.pieces([tokenizer.mask_id])[0])):
        found = around_masks(written, tokenizer)
        joined = ["".join(part.split(" ")).replace("▁", " ") for part in found]
        assert joined[0].strip() == around[0].lower()
        assert joined[1:] == around[1:]


def test_where_a_word_is_masked_the_others_have_the_ids_of_the_whole_line(
    tokenizer: Tokenizer,
) -> None:
    whole = tokenizer.encode(["ein mann läuft auf der straße"])[0]
    (masked,) = encode_masked(["ein mann [MASK] auf der straße"], tokenizer, 1)
    start, end = tokenizer.encode(["ein mann"])[0], tokenizer.encode(["auf der straße"])[0]
    assert masked == [*start, tokenizer.mask_id, *end]
    assert whole[: len(start)] == start
    assert whole[-len(end) :] == end


def test_a_mask_is_found_in_either_form() -> None:
    assert has_mask("ein [MASK]", "<mask>")
    assert has_mask("ein <mask>", "<mask>")
    assert not has_mask("ein <mask>", "[MASK]")


def test_a_vocabulary_that_does_not_read_its_mask_in_text_is_refused(tmp_path: Path) -> None:
    tokenizer = train(tmp_path / "m.model", control_symbols=["[MASK]"])
    assert tokenizer.mask_id
    with pytest.raises(UserError, match="does not read its mask piece"):
        encode_masked(["ein [MASK]"], tokenizer, 1)
    with pytest.raises(UserError, match="has no mask piece"):
        encode_masked(["ein [MASK]"], train(tmp_path / "none.model"), 1)
