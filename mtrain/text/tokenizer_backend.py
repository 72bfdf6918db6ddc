"""What a tokenizer library does for `Tokenizer`: pieces, ids and marks, without prefixes.

Every library gives its pieces in SentencePiece's form: one that begins a word begins with
WORD_START. So the code above knows no other.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

WORD_START = "\u2581"
MASKS = ("[MASK]", "<mask>")  # pieces in place of a token to be predicted


class TokenizerBackend(ABC):
    """A vocabulary, and how text is split into its pieces. Ids carry no start or end marks."""

    kind: str  # what its file is called in messages
    vocab_size: int
    eos_id: int
    bos_id: int  # that of eos if there is none
    pad_id: int  # the same
    unknown_id: int

    @abstractmethod
    def encode(self, texts: Sequence[str], num_threads: int) -> list[list[int]]:
        """Return the ids of each text."""

    @abstractmethod
    def sample(self, texts: Sequence[str], rate: float, seed: int) -> list[list[int]]:
        """Return the ids of one random segmentation of each text, determined by the seed.

        Raises `UserError` if the library has none.
        """

    @abstractmethod
    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each row of ids."""

    @abstractmethod
    def find(self, piece: str) -> int | None:
        """Return the id of a piece, or None if there is no such piece."""

    @abstractmethod
    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the piece of each id."""

    @abstractmethod
    def ordinary_ids(self) -> list[int]:
        """Return the ids that a text can have, but for the unknown piece."""

    @abstractmethod
    def is_byte(self, number: int) -> bool:
        """Tell whether an id stands for bytes that are no character by themselves."""
