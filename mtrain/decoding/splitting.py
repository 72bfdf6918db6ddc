"""Lines too long for a model: split into segments, and join their translations."""

from collections.abc import Sequence

from mtrain.text.tokenizer import WORD_START

SENTENCE_ENDS = tuple(".!?;:\u0964")
WIDE_SENTENCE_ENDS = tuple("\u3002\uff01\uff1f\uff1b")


def split_pieces(pieces: Sequence[str], max_pieces: int) -> list[int]:
    """Return the end of each segment; no segment is longer than `max_pieces`.

    Cuts after the last sentence end in the second half of the pieces that fit; without one,
    before the last word start; without that, at the limit.
    """
    ends, start = [], 0
    while len(pieces) - start > max_pieces:
        limit = start + max_pieces
        middle = start + max_pieces // 2
        # a cut at i separates pieces[i - 1] from pieces[i]
        words = [i for i in range(limit, start, -1) if pieces[i].startswith(WORD_START)]
        sentences = [i for i in range(limit, middle, -1) if _ends_sentence(*pieces[i - 1 : i + 1])]
        start = (sentences or words or [limit])[0]
        ends.append(start)
    return [*ends, len(pieces)]


def _ends_sentence(piece: str, following: str) -> bool:
    """Tell whether a sentence ends between two pieces; all but wide marks need a space after."""
    is_before_word = following.startswith(WORD_START)
    return piece.endswith(WIDE_SENTENCE_ENDS) or (is_before_word and piece.endswith(SENTENCE_ENDS))


def join_segments(texts: Sequence[str], starts_word: Sequence[bool]) -> str:
    """Join translated segments, with a space where the source had one at the cut."""
    joined = texts[0]
    for text, is_word in zip(texts[1:], starts_word[1:], strict=True):
        joined += f" {text}" if is_word and joined and text else text
    return joined
