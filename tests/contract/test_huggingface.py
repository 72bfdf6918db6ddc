"""Every Transformer that can be exported computes in `transformers` what it does here."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mtrain.config import Config
from mtrain.config.tokenizer import TokenizerConfig
from mtrain.errors import UserError
from mtrain.exchange.base import export, is_whole
from mtrain.exchange.comparison import Comparison, Output, Sample
from mtrain.exchange.huggingface import HuggingFaceFormat
from mtrain.models import TranslationModel, build_model
from mtrain.text.tokenizer import TokenizerPair, train_tokenizer
from tests.contract.models import MODELS
from tests.in_process import make_batch, real_places, small_config

LINES = [
    "one two three",
    "smile \U0001f600, and a rare \u0f3c sign",
    "देवनागरी",
    "</s> is text, and so is <pad>",
    "  two  spaces ",
    "tab\tand\u00a0no-break space",
    "x",
]
UNUSUAL = "transformer-modern", "transformer-sparse"  # no class of transformers holds them
EXPORTED = [name for name, model in MODELS.items()
            if model["type"] == "transformer" and name not in UNUSUAL]  # fmt: skip


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, TokenizerPair]:
    """A shared vocabulary, and two of different sizes."""
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "many"]
    texts = [f"{first} {second}" for first in words for second in words]
    folder = tmp_path_factory.mktemp("tokenizers")
    for shares, sizes in ((True, {"shared": 310}), (False, {"source": 310, "target": 300})):
        (folder / str(shares)).mkdir()
        for name, size in sizes.items():
            config = TokenizerConfig(vocab_size=size, type="bpe", normalization="identity")
            train_tokenizer(texts, config, folder / str(shares) / f"{name}.model")
    return {shares: TokenizerPair.load(folder / str(shares)) for shares in (True, False)}


def exported(
    name: str, small_task: Path, folder: Path, vocabularies: dict[bool, TokenizerPair]
) -> tuple[TranslationModel, TokenizerPair, Config, Any, Any]:
    """Return a model with random weights, and model and tokenizer as transformers loads them."""
    shares = MODELS[name]["tie_embeddings"] == "all"
    tokenizers = vocabularies[shares]
    model_settings = {**MODELS[name], "d_model": 32}
    config = small_config(
        small_task, folder / "run", model=model_settings, tokenizer={"shared": shares}
    )
    torch.manual_seed(1)
    model = build_model(config, tokenizers.source.vocab_size, tokenizers.target.vocab_size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # norms and biases as well
    export(HuggingFaceFormat(), folder / "out", model, config, tokenizers)
    theirs, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        folder / "out", output_loading_info=True
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        unexpected = [key for key in report[problem] if "embed_positions" not in str(key)]
        assert not unexpected, problem
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "out")
    return model, tokenizers, config, theirs.eval(), tokenizer


@pytest.mark.parametrize("name", EXPORTED)
@torch.inference_mode()
def test_logits_and_ids_are_the_same(
    name: str, small_task: Path, tmp_path: Path, vocabularies: dict[bool, TokenizerPair]
) -> None:
    model, tokenizers, _, theirs, tokenizer = exported(name, small_task, tmp_path, vocabularies)
    source, target = tokenizers.source, tokenizers.target
    batch = make_batch([(9, 4), (3, 11), (6, 6)], source.vocab_size, target.vocab_size)
    places = torch.arange(batch.source.shape[1])
    logits = theirs(
        input_ids=batch.source,
        attention_mask=(places < batch.source_lengths[:, None]).long(),
        decoder_input_ids=batch.target_in,
    ).logits
    real = real_places(batch)
    expected = model.logits(batch).log_softmax(dim=-1)[real]
    found = logits.log_softmax(dim=-1)[..., : target.vocab_size][real]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

    assert tokenizer(LINES)["input_ids"] == with_end(source.encode(LINES), source.eos_id)
    ids = target.encode(LINES)
    assert tokenizer(text_target=LINES)["input_ids"] == with_end(ids, target.eos_id)
    decoded = [tokenizer.decode(row, skip_special_tokens=True) for row in ids]
    assert decoded == [text.strip() for text in target.decode(ids)]


def test_an_export_that_computes_something_else_is_not_written(
    small_task: Path, tmp_path: Path, vocabularies: dict[bool, TokenizerPair]
) -> None:
    """A weight is changed between writing and checking; without that the check passes."""
    name = "transformer-pre-sinusoidal-all"
    model, tokenizers, config, _, _ = exported(name, small_task, tmp_path, vocabularies)
    sources = tokenizers.source.encode(LINES)
    outputs = [Output([5, 6, 7], "")] * len(LINES)
    sample = Sample(LINES, sources, outputs, outputs)
    target = HuggingFaceFormat()

    def check(folder: Path, change: float) -> None:
        weights = load_file(folder / "model.safetensors")
        weights["model.decoder.layers.0.fc1.weight"][0, 0] += change
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        replay = target.replay(folder, sample, config, tokenizers)
        assert replay is not None
        as_here = replace(replay, greedy=outputs, beam=outputs)
        Comparison(model, tokenizers, sample, as_here, 1.0).report()

    export(target, tmp_path / "good", model, config, tokenizers, partial(check, change=0))
    assert is_whole(tmp_path / "good")
    with pytest.raises(UserError, match="does not compute what the model does: log probab"):
        export(target, tmp_path / "bad", model, config, tokenizers, partial(check, change=1))
    assert not (tmp_path / "bad").exists()


def with_end(rows: Sequence[Sequence[int]], eos_id: int) -> list[list[int]]:
    """Append the end mark to each row."""
    return [[*row, eos_id] for row in rows]
