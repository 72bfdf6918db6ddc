"""Random models in the layouts that `transformers` saves, with tokenizers for a few words."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    M2M100Tokenizer,
    MarianConfig,
    MarianMTModel,
    NllbTokenizer,
)

WORDS = {
    "source": ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    "target": ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"],
}
LINES = ["one two three", "ten  four", "two two x", "seven eight nine", "ten", "fivesix"]
SIZES = {
    "max_position_embeddings": 64,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "d_model": 16,
}


def marian(folder: Path, **options: Any) -> None:
    """Write a model as OPUS-MT's: ids of its own, tags of languages, a bias, <pad> as start."""
    pieces = [_tokenizer(folder / f"{side}.spm", words, "unigram") for side, words in WORDS.items()]
    is_separate = options.get("share_encoder_decoder_embeddings") is False
    tables = pieces if is_separate else [sorted({*pieces[0], *pieces[1]})]
    sizes = []
    for name, table in zip(("vocab", "target_vocab"), tables, strict=False):
        random.Random(1).shuffle(table)
        names = ["</s>", "<unk>", *table, *([] if is_separate else [">>deu<<", ">>nds<<"]), "<pad>"]
        if is_separate:  # <pad> has one id on both sides
            names.remove("<pad>")
            names.insert(2, "<pad>")
        _save(folder / f"{name}.json", {piece: number for number, piece in enumerate(names)})
        sizes.append(len(names))
    about = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "de"}
    _save(folder / "tokenizer_config.json", about | {"separate_vocabs": is_separate})
    pad = 2 if is_separate else sizes[0] - 1
    marks = {"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0}
    usual = {"activation_function": "swish", "scale_embedding": True, "forced_eos_token_id": 0}
    model = MarianMTModel(
        MarianConfig(
            vocab_size=sizes[0], decoder_vocab_size=sizes[-1], **SIZES, **marks, **usual | options
        )
    )
    model.generation_config.bad_words_ids = [[pad]]
    _randomise(model)
    model.final_logits_bias.normal_(std=0.3)
    model.save_pretrained(folder)


def untied_marian(folder: Path) -> None:
    """Write a Marian model with three tables and unscaled embeddings."""
    marian(folder, tie_word_embeddings=False, scale_embedding=False)


def separate_marian(folder: Path) -> None:
    """Write a Marian model with a vocabulary for each side."""
    marian(folder, share_encoder_decoder_embeddings=False)


def m2m100(folder: Path) -> None:
    """Write a model as M2M100: languages behind the pieces, and a few ids of nothing."""
    ids = ["<s>", "<pad>", "</s>", "<unk>", *_joint_tokenizer(folder)]
    _save(folder / "vocab.json", {piece: number for number, piece in enumerate(ids)})
    M2M100Tokenizer(
        str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model")
    ).save_pretrained(folder)
    _save_m2m100(folder, len(ids) + 108)


def nllb(folder: Path) -> None:
    """Write a model as NLLB-200."""
    _joint_tokenizer(folder)
    tokenizer = NllbTokenizer.from_pretrained(
        folder, extra_special_tokens=["deu_Latn", "eng_Latn", "fra_Latn"]
    )
    tokenizer.save_pretrained(folder)
    _save_m2m100(folder, len(tokenizer) + 2)


LAYOUTS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "marian": (marian, ("--target-lang", "deu")),
    "marian-separate": (separate_marian, ()),
    "marian-untied": (untied_marian, ("--target-lang", "nds")),
    "m2m100": (m2m100, ("--source-lang", "en", "--target-lang", "de")),
    "nllb": (nllb, ("--source-lang", "eng_Latn", "--target-lang", "deu_Latn")),
}


def _tokenizer(path: Path, words: list[str], kind: str) -> list[str]:
    """Train a SentencePiece model and return its pieces without marks."""
    texts = [f"{first} {second}" for first in words for second in words]
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=file, model_type=kind, minloglevel=2,
            vocab_size=60, hard_vocab_limit=False,
        )  # fmt: skip
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [model.id_to_piece(number) for number in range(3, model.get_piece_size())]


def _joint_tokenizer(folder: Path) -> list[str]:
    path = folder / "sentencepiece.bpe.model"
    return _tokenizer(path, [*WORDS["source"], *WORDS["target"]], "bpe")


def _save_m2m100(folder: Path, vocab_size: int) -> None:
    model = M2M100ForConditionalGeneration(M2M100Config(vocab_size=vocab_size, **SIZES))
    _randomise(model)
    model.save_pretrained(folder)


@torch.no_grad()
def _randomise(model: torch.nn.Module) -> None:
    """Change every weight: norms and biases begin as ones and zeros."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn_like(parameter))


def _save(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")


def copy_of(folder: Path, destination: Path) -> Path:
    """Copy a model, to be changed."""
    shutil.copytree(folder, destination)
    return destination
