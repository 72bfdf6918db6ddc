"""SentencePiece models as a tokenizer's backend."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import sentencepiece

from mtrain.errors import UserError
from mtrain.text.tokenizer_backend import TokenizerBackend


class SentencePieceBackend(TokenizerBackend):
    """A SentencePiece model. If it lacks <s> or <pad>, </s> takes its place."""

    kind = "SentencePiece model"

    def __init__(self, path: Path) -> None:
        """Read a model. Raises `UserError` if it is none, or has no end mark."""
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=os.fspath(path))
        except (RuntimeError, OSError):
            raise UserError(f"{path}: this is not a SentencePiece model") from None
        self.vocab_size = self._processor.get_piece_size()
        self.eos_id = self._processor.eos_id()
        if self.eos_id < 0:
            raise UserError(
                f"{path}: this SentencePiece model has no end-of-sentence mark </s>",
                "train it with an eos_id, or leave out tokenizer.path and let mtrain train one",
            )
        bos_id: int = self._processor.bos_id()
        self.bos_id = bos_id if bos_id >= 0 else self.eos_id
        pad_id: int = self._processor.pad_id()
        self.pad_id = pad_id if pad_id >= 0 else self.eos_id
        self.unknown_id = self._processor.unk_id()

    def encode(self, texts: Sequence[str], num_threads: int) -> list[list[int]]:
        ids: list[list[int]] = self._processor.encode(list(texts), num_threads=num_threads)
        return ids

    def sample(self, texts: Sequence[str], rate: float, seed: int) -> list[list[int]]:
        sampled: list[list[int]] = []

        def encode() -> None:
            sentencepiece.set_random_generator_seed(seed)
            for text in texts:
                sampled.append(
                    self._processor.encode(text, enable_sampling=True, alpha=rate, nbest_size=-1)
                )

        # SentencePiece has one generator per thread and seeds it at the thread's first use
        thread = threading.Thread(target=encode)
        thread.start()
        thread.join()
        return sampled

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = self._processor.decode(list(map(list, rows)))
        return texts

    def find(self, piece: str) -> int | None:
        number: int = self._processor.piece_to_id(piece)
        return None if number == self.unknown_id else number

    def pieces(self, ids: Sequence[int]) -> list[str]:
        pieces: list[str] = self._processor.id_to_piece(list(ids))
        return pieces

    def ordinary_ids(self) -> list[int]:
        model = self._processor
        special = model.is_control, model.is_unknown, model.is_unused
        return [i for i in range(self.vocab_size) if not any(is_so(i) for is_so in special)]

    def is_byte(self, number: int) -> bool:
        found: bool = self._processor.is_byte(number)
        return found
