"""Random BERTs in the layouts that `transformers` saves, with tokenizers for a few words."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForPreTraining,
    BertModel,
    BigBirdConfig,
    BigBirdForPreTraining,
    BigBirdTokenizer,
    DistilBertConfig,
    DistilBertForMaskedLM,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

LINES = ["one two three", "Ten  four", "größer zwölf, elf.", "smile \U0001f600 x", "fivesix onetwo",
         "déjà\u00a0vu\ttab"]  # fmt: skip
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "ten", "größer", "zwölf", "elf"]
WORDPIECE_MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MARKS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
BIG_BIRD_MARKS = ["<pad>", "</s>", "<s>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 24, "max_position_embeddings": 40}  # fmt: skip


def bert(folder: Path, **options: Any) -> None:
    """Write a BERT as it was published first: vocab.txt alone, old names of norms, other heads."""
    size = wordpiece(folder, lowercase=True)
    (folder / "tokenizer.json").unlink()
    save(BertForPreTraining(BertConfig(vocab_size=size + 3, **SIZES | options)), folder)
    tensors = load_file(folder / "model.safetensors")
    for ours, theirs in (("weight", "gamma"), ("bias", "beta")):
        tensors = {name.replace(f"LayerNorm.{ours}", f"LayerNorm.{theirs}"): tensor
                   for name, tensor in tensors.items()}  # fmt: skip
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def big_bird(folder: Path, **options: Any) -> None:
    """Write a BigBird, whose attention is full up to 24 tokens, as its own classes save it."""
    letters = sorted(set("".join(WORDS)))
    pieces = [*((mark, 0.0) for mark in BIG_BIRD_MARKS), ("\u2581", -3.0)]
    pieces += [(f"\u2581{word}", -5.0) for word in WORDS] + [(letter, -6.0) for letter in letters]
    BigBirdTokenizer(pieces).save_pretrained(folder)
    sizes: dict[str, Any] = {"block_size": 4, "num_random_blocks": 1, **SIZES}
    config = BigBirdConfig(vocab_size=len(pieces), **sizes | options)
    save(BigBirdForPreTraining(config), folder)


def headless(folder: Path) -> None:
    """Write an encoder without a head, as those of sentence-transformers are."""
    size = wordpiece(folder, lowercase=True)
    save(BertModel(BertConfig(vocab_size=size, hidden_act="relu", **SIZES)), folder)


def distilbert(folder: Path) -> None:
    """Write a DistilBERT that keeps capital letters."""
    size = wordpiece(folder, lowercase=False)
    sizes = {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24,
             "max_position_embeddings": 40}  # fmt: skip
    config = DistilBertConfig(vocab_size=size, sinusoidal_pos_embds=True, **sizes)
    save(DistilBertForMaskedLM(config), folder)


def roberta(folder: Path) -> None:
    """Write a RoBERTa with the files of byte-level BPE."""
    model = tokenizers.ByteLevelBPETokenizer()
    model.train_from_iterator(LINES * 4, vocab_size=300, special_tokens=MARKS)
    model.save_model(str(folder))
    tell(folder, "RobertaTokenizer", MARKS)
    config = RobertaConfig(vocab_size=model.get_vocab_size(), layer_norm_eps=1e-5, **SIZES)
    save(RobertaForMaskedLM(config), folder)


def xlm_roberta(folder: Path) -> None:
    """Write an XLM-R, whose tokenizer is of SentencePiece's kind."""
    pieces = [(mark, 0.0) for mark in MARKS[:-1]] + [("\u2581", -3.0)]
    letters = sorted(set("".join(WORDS)))
    pieces += [(f"\u2581{word}", -5.0) for word in WORDS] + [(letter, -6.0) for letter in letters]
    model = tokenizers.Tokenizer(tokenizers.models.Unigram([*pieces, ("<mask>", 0.0)], unk_id=3))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    model.decoder = tokenizers.decoders.Metaspace()
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    model.add_special_tokens([*MARKS[:-1], tokenizers.AddedToken("<mask>", lstrip=True)])
    model.save(str(folder / "tokenizer.json"))
    tell(folder, "PreTrainedTokenizerFast", MARKS)
    save(
        XLMRobertaForMaskedLM(XLMRobertaConfig(vocab_size=model.get_vocab_size(), **SIZES)), folder
    )


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "bert": bert,
    "big_bird": big_bird,
    "headless": headless,
    "distilbert": distilbert,
    "roberta": roberta,
    "xlm-roberta": xlm_roberta,
}


def wordpiece(folder: Path, lowercase: bool) -> int:
    """Write a WordPiece tokenizer, and return the number of its pieces."""
    letters = sorted({*"".join(WORDS).lower(), *"tendéàvuxsmi"})
    pieces = [*WORDPIECE_MARKS, "[unused0]", ",", ".", *WORDS, *letters]
    pieces = list(dict.fromkeys([*pieces, *(f"##{letter}" for letter in letters), "##two"]))
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", "utf-8")
    model = tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=lowercase)
    model.enable_truncation(4)  # as the file of a published model says, and nobody should do
    model.save(str(folder / "tokenizer.json"))
    tell(folder, "BertTokenizer", WORDPIECE_MARKS, do_lower_case=lowercase)
    return len(pieces)


def tell(folder: Path, kind: str, marks: list[str], **options: Any) -> None:
    """Write tokenizer_config.json."""
    keys = ["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"]
    if marks is MARKS:
        keys = ["cls_token", "pad_token", "sep_token", "unk_token", "mask_token"]
    about = {"tokenizer_class": kind, **dict(zip(keys, marks, strict=True)), **options}
    if marks is MARKS:
        about["mask_token"] = {"__type": "AddedToken", "content": "<mask>", "lstrip": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


@torch.no_grad()
def save(model: PreTrainedModel, folder: Path) -> None:
    """Save a model with every weight changed from its start."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
