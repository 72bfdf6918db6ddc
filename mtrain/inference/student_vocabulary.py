"""Compares the vocabularies of a student and its teachers, before any data are prepared."""

from pathlib import Path
from tempfile import TemporaryDirectory

from mtrain.config import Config
from mtrain.config.tokenizer import TokenizerConfig
from mtrain.data.vocabulary import make_tokenizers
from mtrain.inference.teacher import check_vocabulary
from mtrain.text.tokenizer import TokenizerPair

Pieces = tuple[list[str], list[str]]  # of source and target, by id


def check_student_vocabulary(config: Config) -> None:
    """Raise UserError if a student is to learn distributions of other tokens than its own.

    Compares pieces, not files. A vocabulary that `prepare` trains is not a teacher's. A teacher
    whose run folder is gone is not compared.
    """
    if config.distillation is None:
        return
    if config.kept_top_k is None and not config.teaches_in_training:
        return
    folders = [run for run in config.distillation.teachers if (run / "tokenizer").is_dir()]
    own = _given_pieces(config.tokenizer) if folders else None
    for run in folders:
        teacher = TokenizerPair.load(run / "tokenizer")
        if own != _pieces(teacher):
            check_vocabulary(teacher, "", run)  # no vocabulary has an empty digest


def _given_pieces(config: TokenizerConfig) -> Pieces | None:
    """Return the pieces of the given tokenizers with their symbols, None where none are given."""
    if config.path is None:
        return None
    with TemporaryDirectory() as folder:
        return _pieces(make_tokenizers(config, (), Path(folder) / "tokenizer", list))


def _pieces(tokenizers: TokenizerPair) -> Pieces:
    return tokenizers.source.all_pieces, tokenizers.target.all_pieces
