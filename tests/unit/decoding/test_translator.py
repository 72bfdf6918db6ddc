"""The translator around the search: any order, any batch, n-best, long and empty lines."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtrain.config.decoding import DecodingConfig
from mtrain.decoding import engine as engine_module
from mtrain.decoding.beam import beam_search
from mtrain.decoding.engine import TorchEngine
from mtrain.decoding.hypothesis import Hypothesis
from mtrain.decoding.translator import Translator
from mtrain.inference.load import LoadedRun
from mtrain.models import Head, TranslationModel, build_model
from mtrain.nn.prepacked import PrepackedLinear
from mtrain.runtime import onednn
from mtrain.runtime.onednn import can_prepack
from mtrain.runtime.precision import choose_precision
from mtrain.text.tokenizer import TokenizerPair
from tests.in_process import ONEDNN_IS_EXACT, needs_bf16, number_in_a_new_thread, small_config

LINES = [b"1 2 3", b"", b"9 8 7 6 5 4", b"0", b"3 3 3 3", b"5 1", b"7 7 2", b" \t", b"4 4"]


@pytest.fixture(scope="module")
def tokenizers(small_task: Path) -> TokenizerPair:
    return TokenizerPair.load(small_task / "data" / "tokenizer")


@pytest.fixture(scope="module")
def model(small_task: Path, tokenizers: TokenizerPair) -> TranslationModel:
    """Random weights, loud enough for the outputs to differ and to end."""
    torch.manual_seed(1)
    model = build_model(
        small_config(small_task, small_task / "no-run"),
        tokenizers.source.vocab_size,
        tokenizers.target.vocab_size,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def translator(
    model: TranslationModel, tokenizers: TokenizerPair, **decoding: object
) -> Translator:
    precision = choose_precision("fp32", "cpu")
    config = DecodingConfig.model_validate({"beam_size": 3, "max_length_ratio": 0.5, **decoding})
    engine = TorchEngine(model, tokenizers, config, precision.device, precision.autocast, 1, Head())
    return Translator(engine, tokenizers, config.n_best)


def test_a_line_is_translated_the_same_in_any_company(
    model: TranslationModel, tokenizers: TokenizerPair
) -> None:
    together = translator(model, tokenizers).translate(LINES)
    assert len({translation.texts[0] for translation in together}) > 4
    for batch_tokens in (1, 30):
        assert [
            translation.texts
            for translation in translator(model, tokenizers, batch_tokens=batch_tokens).translate(
                LINES
            )
        ] == [translation.texts for translation in together]
    backwards = translator(model, tokenizers).translate(LINES[::-1])
    assert [t.texts for t in backwards] == [t.texts for t in together[::-1]]


@pytest.mark.parametrize(("precision", "vendor", "packs"), [
    ("fp32", "AuthenticAMD", ONEDNN_IS_EXACT),
    ("fp32", "GenuineIntel", False),
    pytest.param("bf16", "AuthenticAMD", can_prepack(), marks=needs_bf16),
])  # fmt: skip
def test_a_run_that_is_read_is_packed_where_that_is_faster(
    precision: str, vendor: str, packs: bool, small_task: Path, model: TranslationModel,
    products: Any, tokenizers: TokenizerPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "cpuinfo").write_text(f"vendor_id\t: {vendor}\n")
    monkeypatch.setattr(onednn, "CPU_INFO", tmp_path / "cpuinfo")
    config = small_config(small_task, tmp_path / "no-run")
    chosen = choose_precision(precision, "cpu")
    run = LoadedRun(config, tokenizers, model, chosen, tmp_path)
    weights_before = run.forced_decoder().attention(([5, 6], [7, 8]))
    engine = TorchEngine(
        run.model, tokenizers, config.decoding, chosen.device, chosen.autocast, 1, Head()
    )
    texts = [t.texts for t in Translator(engine, tokenizers, 1).translate(LINES)]
    assert len({text for (text,) in texts}) > 4
    translator = run.translator()
    searched = translator._engine._model
    assert any(isinstance(module, PrepackedLinear) for module in searched.modules()) is packs
    assert not any(isinstance(module, PrepackedLinear) for module in run.model.modules())
    unpacked = not packs and ONEDNN_IS_EXACT and vendor == "AuthenticAMD"
    # beside prepacked weights, attention's products are MKL's
    assert products.fp32_precision == ("bf16" if unpacked else "none")
    if precision == "fp32":  # bf16 rounds enough to change the words of an untrained model
        assert texts == [translation.texts for translation in translator.translate(LINES)]
        assert texts == [translator.translate([line])[0].texts for line in LINES]
    found = run.forced_decoder().attention(([5, 6], [7, 8]))
    for kind, weights in weights_before.items():
        np.testing.assert_allclose(found[kind], weights, atol=1e-5)


def test_the_search_is_for_as_many_hypotheses_as_are_asked_for(
    model: TranslationModel, tokenizers: TokenizerPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for = []

    def spy(*arguments: Any) -> list[list[Hypothesis]]:
        asked_for.append(arguments[5:7])  # beam_size and n_best
        return beam_search(*arguments)

    monkeypatch.setattr(engine_module, "beam_search", spy)
    translator(model, tokenizers, beam_size=5, n_best=2).translate(LINES)
    assert set(asked_for) == {(5, 2)}


@pytest.mark.skipif(not ONEDNN_IS_EXACT, reason="oneDNN multiplies nothing here")
def test_recurrent_layers_are_still_multiplied_by_onednn(
    small_task: Path, tokenizers: TokenizerPair, products: Any,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "cpuinfo").write_text("vendor_id\t: AuthenticAMD\n")
    monkeypatch.setattr(onednn, "CPU_INFO", tmp_path / "cpuinfo")
    shape = {"type": "rnn", "embedding_dim": 8, "hidden_dim": 8}
    config = small_config(small_task, tmp_path / "no-run", model=shape)
    model = build_model(config, tokenizers.source.vocab_size, tokenizers.target.vocab_size)
    LoadedRun(config, tokenizers, model, choose_precision("fp32", "cpu"), tmp_path).translator()
    assert products.fp32_precision == "bf16"


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_the_number_of_threads_changes_not_a_bit(
    method: str, model: TranslationModel, tokenizers: TokenizerPair
) -> None:
    before, found = torch.get_num_threads(), []
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            twice = translator(model, tokenizers, method=method, batch_tokens=9)
            found.append([twice.translate(LINES), twice.translate(LINES, numbers=range(9, 18))])
            assert number_in_a_new_thread() == torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]
    assert (found[0][0] == found[0][1]) is (method == "beam")  # of other lines


@pytest.mark.parametrize("n_best", [1, 2])
def test_samples_of_a_line_depend_on_its_number_alone(
    n_best: int, model: TranslationModel, tokenizers: TokenizerPair
) -> None:
    """Whatever the blocks and batches, and whichever lines stand beside it."""
    lines = [*LINES, b" ".join([b"5"] * 90)] * 3  # the long one is split
    sampling = translator(model, tokenizers, method="sample", n_best=n_best, batch_tokens=60)

    def in_blocks(size: int) -> list[list[str]]:
        blocks = (range(len(lines))[start : start + size] for start in range(0, len(lines), size))
        return [each.texts for numbers in blocks for each in sampling.translate(
                    [lines[number] for number in numbers], numbers=numbers)]  # fmt: skip

    whole = in_blocks(len(lines))
    assert in_blocks(1) == in_blocks(3) == whole
    backwards = range(len(lines))[::-1]
    reordered = sampling.translate([lines[number] for number in backwards], numbers=backwards)
    assert [each.texts for each in reordered[::-1]] == whole
    third = len(lines) // 3
    same = [whole[row] == whole[row + third] for row in range(third) if lines[row].strip()]
    assert sum(same) < len(same) / 3  # the same lines elsewhere


def test_the_segments_of_a_line_have_samples_of_their_own(
    model: TranslationModel, tokenizers: TokenizerPair
) -> None:
    (found,) = translator(model, tokenizers, method="sample").translate([b" ".join([b"5"] * 78)])
    (first_source, first), (second_source, second) = found.segments
    assert first_source == second_source
    assert first != second


def test_a_search_that_is_left_does_not_go_on(
    model: TranslationModel, tokenizers: TokenizerPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [[5 + number % 7] for number in range(5000)]
    precision = choose_precision("fp32", "cpu")
    engine = TorchEngine(
        model, tokenizers, DecodingConfig(batch_tokens=1, beam_size=1), precision.device,
        precision.autocast, 1, Head(),
    )  # fmt: skip
    searched = []
    search_batch = engine._search_batch

    def counted(*arguments: Any) -> Any:
        searched.append(arguments)
        return search_batch(*arguments)

    monkeypatch.setattr(engine, "_search_batch", counted)
    threads = threading.active_count()
    searching = engine.search(sources)
    next(searching)
    searching.close()
    assert len(searched) < len(sources) / 10
    assert threading.active_count() == threads


@pytest.mark.parametrize("method", ["beam", "sample"])
def test_n_best_is_n_for_every_line_best_first(
    method: str, model: TranslationModel, tokenizers: TokenizerPair
) -> None:
    for translation in translator(model, tokenizers, method=method, n_best=3).translate(LINES):
        assert len(translation.texts) == len(translation.scores) == 3
        if not translation.is_cut_off:
            assert translation.scores[0] == max(translation.scores)


def test_an_empty_line_never_meets_the_model(
    model: TranslationModel, tokenizers: TokenizerPair
) -> None:
    blank = translator(model, tokenizers)
    for translation in blank.translate([b"", b"   ", b"\xef\xbb\xbf", b"\x00"]):
        assert (translation.texts, translation.is_empty, translation.num_segments) == (
            [""],
            True,
            0,
        )
    assert blank.num_tokens == 0
    assert blank.translate([]) == []


def test_a_long_line_is_its_parts_translated_and_joined(
    model: TranslationModel, tokenizers: TokenizerPair
) -> None:
    """The model reads 39 tokens and an end mark."""
    encoded = tokenizers.source.encode([str(digit) for digit in range(10)])
    single = [digit for digit, ids in enumerate(encoded) if len(ids) == 1]
    assert len(single) > 3
    digits = [b"%d" % single[number % len(single)] for number in range(100)]
    long = translator(model, tokenizers).translate([b" ".join(digits)])[0]
    parts = translator(model, tokenizers).translate(
        [b" ".join(digits[start : start + 39]) for start in range(0, 100, 39)]
    )
    assert long.num_segments == len(parts) == 3
    assert long.texts == [" ".join(text for part in parts if (text := part.texts[0]))]
    assert long.scores[0] == pytest.approx(sum(part.scores[0] for part in parts), abs=1e-4)


def test_progress_adds_up_to_the_number_of_lines(
    model: TranslationModel, tokenizers: TokenizerPair
) -> None:
    done: list[int] = []
    lines = [*LINES, b" ".join([b"5"] * 90)]
    translator(model, tokenizers, batch_tokens=20).translate(lines, done.append)
    assert sum(done) == len(lines)
