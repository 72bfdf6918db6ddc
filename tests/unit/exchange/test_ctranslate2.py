"""CTranslate2 computes what the model does, whatever the Transformer is made of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import pytest
import torch

from mtrain import exchange
from mtrain.config import Config
from mtrain.decoding.engine import Engine, TorchEngine
from mtrain.decoding.translator import Translation, Translator
from mtrain.errors import UserError
from mtrain.exchange.ctranslate2 import open_engine
from mtrain.inference.load import LoadedRun
from mtrain.models import Head, TranslationModel, build_model
from mtrain.runtime.precision import choose_precision
from mtrain.text.tokenizer import TokenizerPair
from tests.contract.models import MODELS
from tests.in_process import make_batch, small_config

LINES = [b"1 2 3", b"", b"9 8 7 6 5 4", b"0", b"3 3 3 3", b"5 1", b"7 7 2", b" \t", b"4 4 " * 40]
TRANSFORMERS = {name: model for name, model in MODELS.items()
                if model["type"] == "transformer" and "encoder_attention" not in model}  # fmt: skip
TRANSFORMERS["embedding-norm"] = {**MODELS["transformer-gelu"], "embedding_norm": True}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tokenizers(small_task: Path) -> TokenizerPair:
    return TokenizerPair.load(small_task / "data" / "tokenizer")


def loud_model(config: Config, tokenizers: TokenizerPair) -> TranslationModel:
    """Return a model with random weights, norms and biases included, whose outputs differ."""
    torch.manual_seed(1)
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    model = build_model(config, *sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def config_of(small_task: Path, model: dict[str, Any], **decoding: Any) -> Config:
    decoding = {"beam_size": 3, "max_length_ratio": 0.5, "engine": "ctranslate2", **decoding}
    return small_config(small_task, small_task / "no-run", model=model, decoding=decoding)


def engines(
    model: TranslationModel, config: Config, tokenizers: TokenizerPair, folder: Path
) -> tuple[Engine, Engine]:
    """Return CTranslate2's search and our own."""
    theirs = open_engine(model, config, tokenizers, CPU, "fp32", folder)
    autocast = choose_precision("fp32", "cpu").autocast
    return theirs, TorchEngine(model, tokenizers, config.decoding, CPU, autocast, 1, Head())


def translate(
    model: TranslationModel,
    config: Config,
    tokenizers: TokenizerPair,
    folder: Path,
    lines: Sequence[bytes] = LINES,
) -> tuple[list[Translation], list[Translation]]:
    """Return the translations of the lines by CTranslate2 and by our own search."""
    theirs, ours = (
        Translator(engine, tokenizers, config.decoding.n_best).translate(lines)
        for engine in engines(model, config, tokenizers, folder)
    )
    return theirs, ours


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_every_transformer_is_exported_and_translates_greedily_as_ours(
    name: str, small_task: Path, tokenizers: TokenizerPair, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = config_of(small_task, TRANSFORMERS[name], beam_size=1)
    theirs, ours = translate(loud_model(config, tokenizers), config, tokenizers, tmp_path)
    assert [t.texts for t in theirs] == [t.texts for t in ours]
    assert [t.is_cut_off for t in theirs] == [t.is_cut_off for t in ours]
    assert [t.num_segments for t in theirs] == [t.num_segments for t in ours]
    assert len({t.texts[0] for t in ours}) > 4
    assert "differs by" in capsys.readouterr().err


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_what_both_searches_find_has_the_same_score(
    name: str, small_task: Path, tokenizers: TokenizerPair, tmp_path: Path
) -> None:
    """Of hypotheses that ended: of one that is cut off, theirs has read a token more."""
    config = config_of(small_task, TRANSFORMERS[name], beam_size=20, n_best=20)
    model = loud_model(config, tokenizers)
    with torch.no_grad():  # an end is about as likely as anything, at every step
        features = model.eval().features(make_batch([(4, 5), (6, 5)], 10, 10)).mean((0, 1))
        model.output.weight.mul_(0.1)
        model.output.weight[tokenizers.target.eos_id] += 3 * features / features.square().sum()
    theirs, ours = (
        {
            (number, *hypothesis.tokens): hypothesis.score
            for number, found in engine.search([[5, 6], [7], [8, 5, 9, 9, 6]])
            for hypothesis in found
            if not hypothesis.cut_off
        }
        for engine in engines(model, config, tokenizers, tmp_path)
    )
    in_both = theirs.keys() & ours.keys()
    assert len(in_both) > 15
    for hypothesis in in_both:
        assert theirs[hypothesis] == pytest.approx(ours[hypothesis], abs=1e-4)


def test_a_line_longer_than_its_program_likes_is_read_whole(
    small_task: Path, tokenizers: TokenizerPair, tmp_path: Path
) -> None:
    """CTranslate2 cuts at 1,024 tokens unless it is told otherwise."""
    shape = {**MODELS["transformer-gelu"], "max_positions": 1300}
    config = config_of(small_task, shape, beam_size=2, max_length_ratio=0.01)
    model = loud_model(config, tokenizers)
    lines = [b"1 " * 1030 + tail * 60 for tail in (b"7 3 ", b"9 0 ")]
    theirs, ours = translate(model, config, tokenizers, tmp_path, lines)
    assert [t.texts for t in theirs] == [t.texts for t in ours]
    assert {t.num_segments for t in theirs} == {1}
    scores = [t.scores[0] for t in ours]
    assert abs(scores[0] - scores[1]) > 0.1  # the tails matter
    assert [t.scores[0] for t in theirs] == pytest.approx(scores, abs=0.1)  # cut off one later


def test_a_translation_may_be_empty(
    small_task: Path, tokenizers: TokenizerPair, tmp_path: Path
) -> None:
    config = config_of(small_task, {**MODELS["transformer-gelu"], "tie_embeddings": "none"})
    model = loud_model(config, tokenizers)
    with torch.no_grad():  # every vector is the same, and only the end mark answers to it
        model.decoder_norm.weight.zero_()
        model.decoder_norm.bias.fill_(1.0)
        model.output.weight.zero_()
        model.output.weight[tokenizers.target.eos_id] = 1.0
    theirs, ours = translate(model, config, tokenizers, tmp_path)
    assert [t.texts for t in theirs] == [t.texts for t in ours] == [[""]] * len(LINES)
    assert [tokens for t in theirs for _, tokens in t.segments] == [
        [] for t in ours for _ in t.segments
    ]
    assert not any(t.is_cut_off for t in theirs)


def test_eight_bits_translate_nearly_the_same_and_n_best_are_ordered(
    small_task: Path, tokenizers: TokenizerPair, tmp_path: Path
) -> None:
    config = config_of(small_task, MODELS["transformer-gelu"], engine="ctranslate2-int8", n_best=3)
    theirs, _ = translate(loud_model(config, tokenizers), config, tokenizers, tmp_path)
    for translation in theirs:
        assert len(translation.texts) == len(translation.scores) == 3
        if translation.num_segments == 1:
            assert translation.scores == sorted(translation.scores, reverse=True)


def test_an_export_that_computes_something_else_is_refused(
    small_task: Path, tokenizers: TokenizerPair, tmp_path: Path
) -> None:
    config = config_of(small_task, MODELS["transformer-gelu"])
    model = loud_model(config, tokenizers)
    open_engine(model, config, tokenizers, CPU, "fp32", tmp_path)
    with torch.no_grad():
        model.decoder[0].feed_forward.outer.bias[3] += 1
    with pytest.raises(UserError, match="does not compute what the model does") as refusal:
        open_engine(model, config, tokenizers, CPU, "fp32", tmp_path)
    assert f"remove {tmp_path / 'ctranslate2'}" in refusal.value.hint


def test_without_the_package_the_extra_is_named(
    small_task: Path, tokenizers: TokenizerPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(small_task, MODELS["transformer-gelu"])
    precision = choose_precision("fp32", "cpu")
    loaded = LoadedRun(config, tokenizers, loud_model(config, tokenizers), precision, tmp_path)
    assert loaded.translator().translate([b"1"])
    monkeypatch.setattr(exchange, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"mtrain\[ctranslate2\]"):
        loaded.translator()


@pytest.mark.parametrize("name", ["rnn-bahdanau", "decoder-only"])
def test_a_model_that_is_no_transformer_is_refused_by_the_key_that_forbids_it(
    name: str, small_task: Path, tokenizers: TokenizerPair, tmp_path: Path
) -> None:
    config = config_of(small_task, MODELS[name])
    with pytest.raises(
        UserError, match=f"cannot hold a model with model.type: {MODELS[name]['type']}"
    ):
        open_engine(loud_model(config, tokenizers), config, tokenizers, CPU, "fp32", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_trained_in_bf16_is_searched_in_a_format_that_the_processor_has(
    small_task: Path, tokenizers: TokenizerPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(small_task, MODELS["transformer-pre-sinusoidal-all"])
    engine = open_engine(loud_model(config, tokenizers), config, tokenizers, CPU, "bf16", tmp_path)
    assert len(list(engine.search([[5, 6, 7]]))) == 1
    formats = ctranslate2.get_supported_compute_types("cpu")
    expected = "bfloat16" if "bfloat16" in formats else "float32"
    assert f"in {expected}:" in capsys.readouterr().err
