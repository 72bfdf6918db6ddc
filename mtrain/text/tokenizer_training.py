"""Trains SentencePiece models.

They have the marks <pad> 0, <unk> 1, <s> 2, </s> 3, and byte fallback, so that no input is unknown.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from mtrain.config.tokenizer import TokenizerConfig
from mtrain.console import warn
from mtrain.errors import UserError
from mtrain.runtime.environment import available_cores


def train_tokenizer(sentences: Iterable[str], config: TokenizerConfig, model_path: Path) -> int:
    """Train a SentencePiece model into `model_path` and return its vocabulary size.

    If the text cannot fill the vocabulary, lowers its size to the possible one, with a warning.
    """
    kept = list(sentences)
    vocab_size = config.vocab_size
    while True:
        try:
            _train(kept, config, vocab_size, model_path)
            return vocab_size
        except RuntimeError as error:
            vocab_size = _possible_size(str(error), vocab_size, len(kept))


def _train(
    sentences: list[str], config: TokenizerConfig, vocab_size: int, model_path: Path
) -> None:
    with model_path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=file,
            model_type=config.type,
            vocab_size=vocab_size,
            character_coverage=config.character_coverage,
            normalization_rule_name=config.normalization,
            byte_fallback=True,
            user_defined_symbols=list(dict.fromkeys(config.symbols)),
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            num_threads=available_cores(),
            max_sentence_length=16384,
            minloglevel=2,
        )


def _possible_size(message: str, vocab_size: int, num_sentences: int) -> int:
    """Parse the possible size from SentencePiece's error and warn, or raise UserError."""
    too_high = re.search(r"<= (\d+)", message)
    if too_high and int(too_high[1]) < vocab_size:
        possible = int(too_high[1])
        warn(
            f"tokenizer.vocab_size lowered from {vocab_size} to {possible}: "
            f"{num_sentences} training sentences cannot fill more"
        )
        return possible
    too_low = re.search(r"smaller than required_chars\. \d+ vs (\d+)", message)
    if too_low:
        raise UserError(
            f"tokenizer.vocab_size {vocab_size} is too small: the text's characters and the 256 "
            f"bytes alone take {too_low[1]}",
            "raise tokenizer.vocab_size, or lower tokenizer.character_coverage",
        )
    raise UserError(f"SentencePiece cannot be trained on {num_sentences} sentences: {message}")
