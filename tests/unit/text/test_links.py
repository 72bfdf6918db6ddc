"""Links: every line of Pharaoh's format is read or refused, and words' links become tokens'."""

import random

import pytest

from mtrain.config.tokenizer import TokenizerConfig
from mtrain.errors import UserError
from mtrain.text.links import Link, LinkMapper, parse_links
from mtrain.text.tokenizer import WORD_START, Tokenizer, TokenizerPair, train_tokenizer

TEXTS = ["the cats sat down", "cats sleep", "the dog barks at the cats", "a dog"]


@pytest.mark.parametrize(
    ("line", "links"),
    [
        (b"", []),
        (b" \t\r", []),
        (b"0-0", [(0, 0)]),
        (b"2-1 0-3", [(2, 1), (0, 3)]),
        (b"1-1\t0-0  1-1 \r", [(1, 1), (0, 0)]),
        (b"\xef\xbb\xbf0-0 01-2", [(0, 0), (1, 2)]),
    ],
)
def test_a_line_gives_each_of_its_links_once(line: bytes, links: list[Link]) -> None:
    assert parse_links(line, (3, 4), "a.align:7") == links


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"0-0 1", "a.align:7: '1' is not a link\nwrite links as 0-0 1-2"),
        (b"0-0-0", "a.align:7: '0-0-0' is not a link"),
        (b"0p1", "a.align:7: '0p1' is not a link"),
        (b"-1-0", "a.align:7: '-1-0' is not a link"),
        (b"0-0/1.0", "a.align:7: '0-0/1.0' is not a link"),
        ("0-\u0661".encode(), "is not a link"),  # a digit, but not one of ours
        (b"\xff-0", "a.align:7: '\ufffd-0' is not a link"),
        (b"0-" + b"9" * 5000, "is not a link"),
        (b"5-0", "a.align:7: the link 5-0 leaves its pair: source word 5 of 5"),
        (b"4-2 7-9", "a.align:7: the link 7-9 leaves its pair: source word 7 of 5"),
        (b"4-3", "a.align:7: the link 4-3 leaves its pair: target word 3 of 3"),
    ],
)
def test_what_is_no_link_within_the_pair_is_refused(line: bytes, error: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_links(line, (5, 3), "a.align:7")
    assert error in str(caught.value)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> TokenizerPair:
    """One for both sides that cuts most words to pieces."""
    path = tmp_path_factory.mktemp("tokenizer") / "shared.model"
    config = TokenizerConfig(vocab_size=300, normalization="nmt_nfkc")
    train_tokenizer(TEXTS, config, path)
    return TokenizerPair(Tokenizer(path), Tokenizer(path))


def words_at(tokenizer: Tokenizer, ids: list[int]) -> list[int]:
    """Return the word that each token is of, told by the blanks of the decoded text."""
    return [
        len(tokenizer.decode([ids[: place + 1]])[0].split()) - 1
        + (tokenizer.pieces([token]) == [WORD_START])
        for place, token in enumerate(ids)
    ]  # fmt: skip


def test_every_token_of_a_word_is_linked_to_every_token_of_the_other(
    tokenizers: TokenizerPair,
) -> None:
    generator = random.Random(1)
    mapper = LinkMapper(tokenizers)
    for _ in range(50):
        texts = generator.choices(TEXTS, k=2)
        ids = tokenizers.source.encode(texts)
        source_words, target_words = (words_at(tokenizers.source, side) for side in ids)
        every = [(i, j) for i in set(source_words) for j in set(target_words)]
        links = generator.sample(every, k=generator.randint(1, len(every)))
        expected = {
            (s, t)
            for s, i in enumerate(source_words)
            for t, j in enumerate(target_words)
            if (i, j) in links
        }
        mapped = mapper.map(links, texts, ids)
        assert set(mapped) == expected
        assert len(mapped) == len(expected)
    assert mapper.counts() == {"pairs": 50, "lost": 0}


@pytest.mark.parametrize(
    "text",
    [
        "cats\u200bsleep",  # a space of no width, to SentencePiece a blank
        "the \u200b dog",  # which leaves nothing of its word
        "cats\u00a8sleep",  # becomes a blank and a mark that combines
        "cats\u2581sleep",  # SentencePiece's own blank
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_a_pair_whose_words_normalisation_changed_keeps_no_links(
    side: int, text: str, tokenizers: TokenizerPair
) -> None:
    mapper = LinkMapper(tokenizers)
    texts = ["a dog", "a dog"]
    texts[side] = text
    ids = tokenizers.source.encode(texts)
    assert mapper.map([(0, 0)], texts, ids) == []
    assert mapper.map([], texts, ids) == []  # has none to lose
    assert mapper.counts() == {"pairs": 0, "lost": 1}
