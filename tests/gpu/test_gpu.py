"""What only a GPU can show: half precision, training, going on and translating on CUDA."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mtrain.config.decoding import DecodingConfig
from mtrain.data.batch import PairBatch
from mtrain.data.folders import DataFolder
from mtrain.data.makers.packed import NO_PAIR, PackedMaker
from mtrain.data.makers.padded import BatchMaker
from mtrain.decoding.engine import TorchEngine
from mtrain.decoding.translator import Translator
from mtrain.distributed.group import ProcessGroup
from mtrain.models import Head, TranslationModel
from mtrain.nn.block_sparse import BlockPattern, Span, SparseMask
from mtrain.runtime.precision import choose_precision
from mtrain.training.build import build_trainer
from mtrain.training.signals import StopSignal
from tests.contract.models import MODELS as ARCHITECTURES
from tests.contract.models import SOURCE_VOCAB, TARGET_VOCAB, build, new_model
from tests.in_process import (
    SMALL_MODEL,
    Learner,
    learn,
    make_batch,
    make_learner,
    open_run,
    open_setup,
    real_places,
    run_in_two_sittings,
    small_config,
)

DEVICE = "cuda"
MODELS = ("transformer-pre-sinusoidal-all", "transformer-modern", "decoder-only",
          "rnn-bahdanau", "rnn-luong", "rnn-gnmt")  # fmt: skip
LENGTHS = [(5, 7), (9, 2), (2, 6), (7, 9), (3, 1), (4, 4), (8, 8), (6, 3)]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

# torch asks for it before the first product, where results are to be the same each time
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


every_model = pytest.mark.parametrize("model_name", MODELS)


def a_model(name: str) -> TranslationModel:
    torch.manual_seed(1)
    return new_model(name).eval().to(DEVICE)


def a_batch() -> PairBatch:
    return make_batch(LENGTHS, SOURCE_VOCAB, TARGET_VOCAB).to(torch.device(DEVICE))


def test_auto_takes_the_gpu_in_half_precision() -> None:
    precision = choose_precision("auto", "auto")
    assert precision.device.type == DEVICE
    assert precision.name in ("bf16", "fp16")
    assert precision.scales_loss == (precision.name == "fp16")


@every_model
def test_fp32_logits_on_the_gpu_are_those_of_the_cpu(model_name: str) -> None:
    choose_precision("fp32", DEVICE)
    model, batch = a_model(model_name), a_batch()
    with torch.inference_mode():
        on_gpu = model.logits(batch).cpu()
        on_cpu = model.cpu().logits(batch.to(torch.device("cpu")))
    torch.testing.assert_close(on_gpu, on_cpu, atol=1e-4, rtol=1e-3)


@every_model
@pytest.mark.parametrize(("name", "tolerance"), [("bf16", 0.03), ("fp16", 0.005)])
def test_half_precision_logits_are_near_those_of_fp32(
    name: str, tolerance: float, model_name: str
) -> None:
    model, batch = a_model(model_name), a_batch()
    real = real_places(batch.to(torch.device("cpu"))).to(DEVICE)
    with torch.inference_mode():
        expected = model.logits(batch)
        with choose_precision(name, DEVICE).autocast():
            logits = model.logits(batch)[real].float()
            state = model.encode(batch.source, batch.source_lengths)
            first, _ = model.step(batch.target_in[:, :1], state)
    for half, full in ((logits, expected[real]), (first[:, 0].float(), expected[:, 0])):
        assert bool(torch.isfinite(half).all())
        assert float((half - full).norm() / full.norm()) < tolerance


@every_model
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_updates_lower_the_loss_and_weights_stay_fp32(name: str, model_name: str) -> None:
    """fp16 may skip a few first updates, until its loss scale has come down."""
    model, batch = a_model(model_name), a_batch()
    learner = make_learner(model, {"label_smoothing": 0.0, "precision": name}, DEVICE)
    results = [learner.update(number, [batch], 3e-3) for number in range(60)]
    finite = [result for result in results if result.is_finite]
    assert len(finite) > 40
    assert finite[-1].loss < 0.5 * finite[0].loss
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_packed_batches_teach_what_padded_ones_do(
    name: str, is_compiled: bool, small_task: Path, tmp_path: Path
) -> None:
    """Captured, and replayed for other pairs than those of the capture."""
    told = []
    for is_packed in (True, False):
        training = {"precision": name, "compile_layers": is_compiled, "batch_tokens": 1024}
        model = {**SMALL_MODEL, "dropout": 0.0, "norm": "post", "positions": "rotary"}
        run_dir = tmp_path / str(is_packed)
        setup = open_setup(small_config(small_task, run_dir, training, model, device=DEVICE))
        maker = setup.maker
        assert isinstance(maker, PackedMaker)
        tokenizers = DataFolder(setup.config.data_path).tokenizers()
        padded = BatchMaker(setup.store, tokenizers, 40, 1024)
        learner = Learner(setup.state, setup.updater, ProcessGroup())
        plan = maker.plan(setup.mixtures[0].rows(1, 0), 1, 0)
        losses = []
        for number in range(20):
            rows = plan[number % 2]
            batch = maker.make(rows) if is_packed else padded.make(rows[rows != NO_PAIR])
            losses.append(learner.update(number, [batch, batch], 3e-3).loss)
        told.append(losses)
    assert told[0][-4:] == pytest.approx(told[1][-4:], rel=1e-3 if name == "fp32" else 0.02)
    assert told[0][-1] < 0.9 * told[0][0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 0.03)])
def test_attention_in_tiles_is_that_of_the_mask(dtype: torch.dtype, tolerance: float) -> None:
    """With gradients, of sequences that begin anywhere; the second batch has another length."""
    pattern = BlockPattern(block_size=64, window_blocks=3, global_blocks=2, random_blocks=3)
    for width in (2300, 1500):
        torch.manual_seed(1)
        spans = [Span(0, 0, width - 20), Span(1, 0, 700), Span(1, 700, width - 700)]
        mask = SparseMask(pattern, spans, layer=1)
        inputs = [torch.randn(2, 4, width, 32, device=DEVICE, requires_grad=True) for _ in "qkv"]
        assert mask.computes(inputs[0], 0.0)
        found = mask.mix(*(x.to(dtype) for x in inputs), 0.0).float()
        dense = F.scaled_dot_product_attention(*inputs, mask.dense(inputs[0][:, 0]))
        dense = torch.cat([dense[:1, :, : width - 20].flatten(2), dense[1:].flatten(2)], dim=2)
        found = torch.cat([found[:1, :, : width - 20].flatten(2), found[1:].flatten(2)], dim=2)
        grad = torch.randn_like(found)
        for one, other in zip(
            (found, *torch.autograd.grad(found, inputs, grad)),
            (dense, *torch.autograd.grad(dense, inputs, grad)), strict=True,
        ):  # fmt: skip
            assert float((one - other).detach().norm() / other.norm()) < tolerance


def test_logits_of_long_sources_are_those_of_the_cpu() -> None:
    choose_precision("fp32", DEVICE)
    torch.manual_seed(1)
    sparse = {"type": "block_sparse", "block_size": 32}
    shape = {"max_positions": 2000, "d_model": 64, "num_heads": 2, "encoder_attention": sparse}
    model = build({**ARCHITECTURES["transformer-pre-sinusoidal-all"], **shape}).eval()
    batch = make_batch([(1700, 7), (1200, 5)], SOURCE_VOCAB, TARGET_VOCAB)
    real = real_places(batch)
    with torch.inference_mode():
        on_cpu = model.logits(batch)
        on_gpu = model.to(DEVICE).logits(batch.to(torch.device(DEVICE))).cpu()
    torch.testing.assert_close(on_gpu[real], on_cpu[real], atol=1e-3, rtol=1e-2)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(
    ("precision", "is_compiled"), [("fp32", False), ("auto", False), ("auto", True)]
)
def test_going_on_after_a_stop_is_bit_for_bit(
    precision: str, is_compiled: bool, small_task: Path, tmp_path: Path
) -> None:
    training = {"precision": precision, "accumulate": 2, "compile_layers": is_compiled}
    config = small_config(small_task, tmp_path / "run", training, device=DEVICE)
    whole, _ = open_run(config)
    learn(whole, 12)
    resumed = run_in_two_sittings(config, 6, 12)
    for one, other in (
        (whole.state.weights, resumed.state.weights),
        (whole.state.tensors(), resumed.state.tensors()),
    ):
        assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_translations_on_the_gpu_are_mostly_those_of_the_cpu(
    small_task: Path, tmp_path: Path
) -> None:
    """A trained model in fp32: only near-ties may fall otherwise."""
    training = {"max_updates": 150, "valid_every": 150, "precision": "fp32"}
    config = small_config(small_task, tmp_path / "run", training, device=DEVICE)
    setup, run = open_run(config)
    build_trainer(setup, run, ProcessGroup(), StopSignal()).run()
    tokenizers, model = DataFolder(config.data_path).tokenizers(), setup.state.model
    assert isinstance(model, TranslationModel)
    lines = (small_task / "test.digits").read_bytes().splitlines()
    outputs = []
    for device in (DEVICE, "cpu"):
        precision = choose_precision("fp32", device)
        engine = TorchEngine(
            model.to(precision.device),
            tokenizers,
            DecodingConfig(beam_size=3),
            precision.device,
            precision.autocast,
            1,
            Head(),
        )
        translator = Translator(engine, tokenizers, 1)
        outputs.append([translation.texts[0] for translation in translator.translate(lines)])
    same = sum(one == other for one, other in zip(*outputs, strict=True))
    assert same >= 0.9 * len(lines)
    assert len(set(outputs[0])) > 1
