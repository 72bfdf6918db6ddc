"""Puts tokenizers into a data folder: given ones, or new ones that it trains on a sample."""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path

from mtrain.config.tokenizer import SidePaths, TokenizerConfig
from mtrain.errors import UserError
from mtrain.text.tokenizer import TokenizerPair, train_tokenizer
from mtrain.text.tokenizer_model import append_symbols

TextPair = tuple[str, str]
MAX_SENTENCE_BYTES = 16384  # SentencePiece ignores longer lines in training


def make_tokenizers(
    config: TokenizerConfig,
    prefixes: Iterable[str],
    folder: Path,
    draw_sample: Callable[[], Sequence[TextPair]],
) -> TokenizerPair:
    """Create the folder and its tokenizers; draw a sample of train only to train one.

    A new vocabulary has the `prefixes` as pieces that are never split, like `symbols`.

    Raises UserError if every line of a side of the sample is too long for SentencePiece.
    """
    folder.mkdir()
    if isinstance(config.path, SidePaths):
        _copy(config.path.source, folder, "source", config.symbols)
        _copy(config.path.target, folder, "target", config.symbols)
    elif config.path is not None:
        _copy(config.path, folder, "shared", config.symbols)
    else:
        sample = draw_sample()
        sides = {
            "source": [source for source, _ in sample],
            "target": [target for _, target in sample],
        }
        for side, sentences in sides.items():
            if sentences and all(
                len(sentence.encode()) > MAX_SENTENCE_BYTES for sentence in sentences
            ):
                raise UserError(
                    f"data.train: every line of the {side} is longer than {MAX_SENTENCE_BYTES:,} "
                    "bytes; one sentence a line is expected",
                    f"the first begins {sentences[0][:60]!r}: split the text into sentences, the "
                    "translation in step",
                )
        symbols = tuple(dict.fromkeys((*config.symbols, *sorted(prefixes))))
        config = config.model_copy(update={"symbols": symbols})
        if config.shared:
            texts = filter(None, chain.from_iterable(sample))
            train_tokenizer(texts, config, folder / "shared.model")
        else:
            for side, sentences in sides.items():
                train_tokenizer(sentences, config, folder / f"{side}.model")
    return TokenizerPair.load(folder)


def _copy(path: Path, folder: Path, side: str, symbols: Sequence[str]) -> None:
    """Copy a given tokenizer, with symbols appended, as that of a side."""
    suffix = ".json" if path.suffix == ".json" else ".model"
    (folder / f"{side}{suffix}").write_bytes(append_symbols(path, symbols))
