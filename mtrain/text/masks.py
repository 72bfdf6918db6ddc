"""Text with masks: `[MASK]` stands in place of a token that a model is to predict."""

from collections.abc import Sequence

from mtrain.errors import UserError
from mtrain.text.tokenizer import MASK, WORD_START, Tokenizer


def encode_masked(texts: Sequence[str], tokenizer: Tokenizer, num_threads: int) -> list[list[int]]:
    """Return the ids of each text; MASK, and the vocabulary's own mask piece, are its `mask_id`.

    SentencePiece encodes the space before a mask as a lone WORD_START. In training that space is
    part of the masked piece, so it is left out here. Raises `UserError` if the vocabulary has no
    mask piece, or does not read it in text.
    """
    mask_id = tokenizer.mask_id
    (own,) = tokenizer.pieces([mask_id])
    replaced = [text.replace(MASK, own) for text in texts]
    encoded = tokenizer.encode(replaced, num_threads)
    for text, ids in zip(replaced, encoded, strict=True):
        if ids.count(mask_id) != text.count(own):
            raise UserError(
                f"{tokenizer.path}: this vocabulary does not read its mask piece {own} in text",
                f'add one that it reads with tokenizer.symbols: ["{MASK}"], and train again',
            )
    return [_without_space_before(mask_id, ids, tokenizer) for ids in encoded]


def has_mask(text: str, own_mask: str) -> bool:
    """Return whether a text has a mask: MASK, or the vocabulary's own mask piece."""
    return MASK in text or own_mask in text


def _without_space_before(mask_id: int, ids: list[int], tokenizer: Tokenizer) -> list[int]:
    pieces = tokenizer.pieces(ids)
    is_space = [piece == WORD_START and following == mask_id
                for piece, following in zip(pieces, [*ids, -1][1:], strict=True)]  # fmt: skip
    return [number for number, is_left_out in zip(ids, is_space, strict=True) if not is_left_out]
