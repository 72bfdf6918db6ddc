"""A small task for models that learn from text, and a small BERT, in the test's own process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtrain.commands.prepare import prepare
from mtrain.config import Config
from mtrain.models import build_model
from mtrain.models.bert import Bert
from mtrain.text.tokenizer import Tokenizer, TokenizerPair
from tests.conftest import write_task
from tests.in_process import SMALL_TRAINING

SMALL_BERT = {"type": "bert", "encoder_layers": 2, "d_model": 32, "num_heads": 4, "ffn_dim": 48,
              "max_positions": 320}  # fmt: skip


def prepare_text_task(folder: Path, kind: str) -> Path:
    """Prepare the small task as text or as pairs, in a folder that any number of runs can use."""
    write_task(folder, {"train": 300, "valid": 12})
    prepare(bert_config(folder, folder / "run", kind=kind))
    return folder


def bert_config(
    folder: Path, run_dir: Path, training: dict[str, Any] | None = None, kind: str = "text",
    **keys: Any,
) -> Config:  # fmt: skip
    """Return a configuration for text of both sides of the small task, or for its pairs."""

    def corpora(split: str) -> list[dict[str, Any]]:
        paths = {side: folder / f"{split}.{side}" for side in ("digits", "words")}
        if kind == "pairs":
            return [{"source": paths["digits"], "target": paths["words"], "source_lang": "digits",
                     "target_lang": "words"}]  # fmt: skip
        return [{"text": path, "lang": side, "name": side} for side, path in paths.items()]

    tree = {
        "run_dir": run_dir,
        "data_dir": folder / f"data-{kind}",
        "data": {"train": corpora("train"), "valid": corpora("valid"),
                 "filters": {"max_tokens": 160}},
        "device": "cpu",
        "tokenizer": {"vocab_size": 340},
        "model": SMALL_BERT,
        "training": {**SMALL_TRAINING, "objective": "masked_lm", "batch_tokens": 512,
                     **(training or {})},
    }  # fmt: skip
    return Config.model_validate({**tree, **keys})


def tokenizer_of(task: Path) -> Tokenizer:
    return TokenizerPair.load(task / "data-text" / "tokenizer").source


def ready_bert(seed: int = 1, **settings: Any) -> Bert:
    """Return a model in which every parameter matters: none is left at 0 or 1."""
    torch.manual_seed(seed)
    config = bert_config(Path("nowhere"), Path("nowhere/run"), model=SMALL_BERT | settings)
    model = build_model(config, 340, 340).eval()
    assert isinstance(model, Bert)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_ids(tokenizer: Tokenizer, lengths: Sequence[int], seed: int = 1) -> list[list[int]]:
    words = sorted(set(tokenizer.ordinary_ids) - {tokenizer.mask_id})
    random = np.random.default_rng(seed)
    return [random.choice(words, length).tolist() for length in lengths]
