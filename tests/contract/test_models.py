"""What training and search take for granted of every model, checked for each.

Shapes as in mtrain/models/base.py: B sentences, K hypotheses a sentence, T target length,
V target vocabulary.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mtrain.checkpoints.format import load_checkpoint, save_checkpoint
from mtrain.checkpoints.weights import put_weights
from mtrain.data.batch import PairBatch
from mtrain.decoding.beam import beam_search
from mtrain.decoding.greedy import greedy_search
from mtrain.decoding.hypothesis import Hypothesis, Marks, Scoring
from mtrain.distributed.group import ProcessGroup
from mtrain.models import SearchedModel, TranslationModel
from mtrain.nn.prepacked import prepacked
from mtrain.runtime.onednn import can_multiply_bf16, can_prepack
from mtrain.runtime.precision import choose_precision
from tests.contract.models import MODELS, SOURCE_VOCAB, TARGET_VOCAB, build, new_model
from tests.contract.sharing import learn_with_every_model
from tests.contract.stepping import check_steps
from tests.in_process import (
    BOS_ID,
    EOS_ID,
    LOWEST,
    assert_same_state,
    learn,
    make_batch,
    make_learner,
    needs_bf16,
    open_run,
    real_places,
    run_in_two_sittings,
    small_config,
)

PROJECT = Path(__file__).parents[2]
MARKS = Marks((BOS_ID,), EOS_ID)
LENGTHS = [(5, 7), (9, 2), (1, 6), (7, 9), (3, 1)]  # source and target, end marks included

every_model = pytest.mark.parametrize("name", MODELS)


def ready_model(name: str, seed: int = 1) -> TranslationModel:
    """Return a model in which every parameter matters: none is left at 0 or 1."""
    torch.manual_seed(seed)
    model = new_model(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def a_batch(lengths: Sequence[tuple[int, int]] = LENGTHS, seed: int = 1) -> PairBatch:
    return make_batch(lengths, SOURCE_VOCAB, TARGET_VOCAB, seed)


def logits_of(model: SearchedModel, batch: PairBatch) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model.logits(batch)
    return logits


def search(
    model: SearchedModel, batch: PairBatch, limit: int, length_penalty: float = 1.0
) -> list[list[Hypothesis]]:
    with torch.inference_mode():
        return beam_search(
            model,
            batch.source,
            batch.source_lengths,
            [limit] * len(batch.source),
            MARKS,
            4,
            4,
            Scoring(length_penalty),
        )


@every_model
def test_step_unrolled_equals_forward(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    expected = logits_of(model, batch)
    steps = []
    with torch.inference_mode():
        state = model.encode(batch.source, batch.source_lengths)
        for place in range(batch.target_in.shape[1]):
            logits, state = model.step(batch.target_in[:, place : place + 1], state)
            assert logits.shape == (len(LENGTHS), 1, TARGET_VOCAB)
            steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), expected, atol=2e-5, rtol=1e-4)


@every_model
def test_step_equals_forward_through_reorder_and_keep(name: str) -> None:
    check_steps(ready_model(name), a_batch())


@every_model
def test_states_of_several_searches_do_not_mix(name: str) -> None:
    """Nothing is kept on the model between calls."""
    model, first, second = ready_model(name), a_batch(), a_batch(LENGTHS[::-1], seed=2)
    alone = [logits_of(model, batch) for batch in (first, second)]
    with torch.inference_mode():
        states = [model.encode(batch.source, batch.source_lengths) for batch in (first, second)]
        for place in range(4):
            for index, batch in enumerate((first, second)):
                tokens = batch.target_in[:, place : place + 1]
                logits, states[index] = model.step(tokens, states[index])
                expected = alone[index][:, place : place + 1]
                torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)


@every_model
def test_padding_changes_nothing(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    real = real_places(batch)
    expected = logits_of(model, batch)[real]
    for extra in (0, 3):
        padded = with_random_padding(batch, extra)
        padded_logits = logits_of(model, padded)[:, : real.shape[1]][real]
        torch.testing.assert_close(padded_logits, expected, atol=2e-5, rtol=1e-4)
        with torch.inference_mode():
            state = model.encode(padded.source, padded.source_lengths)
            first, _ = model.step(padded.target_in[:, :1], state)
        torch.testing.assert_close(first, first_of_each(expected, batch), atol=2e-5, rtol=1e-4)


def with_random_padding(batch: PairBatch, extra: int) -> PairBatch:
    """Return the same pairs, `extra` columns wider, with other ids where there is no text."""
    generator = torch.Generator().manual_seed(7)

    def pad(tokens: Tensor, lengths: Tensor, vocab_size: int) -> Tensor:
        shape = (tokens.shape[0], tokens.shape[1] + extra)
        noise = torch.randint(vocab_size, shape, generator=generator)
        is_real = torch.arange(shape[1]) < lengths[:, None]
        wide = torch.nn.functional.pad(tokens, (0, extra))
        return torch.where(is_real, wide, noise)

    return replace(
        batch,
        source=pad(batch.source, batch.source_lengths, SOURCE_VOCAB),
        target_in=pad(batch.target_in, batch.target_lengths, TARGET_VOCAB),
        target_out=pad(batch.target_out, batch.target_lengths, TARGET_VOCAB),
    )


def first_of_each(real_logits: Tensor, batch: PairBatch) -> Tensor:
    """Return the logits (B,1,V) of each first token, out of those of all real tokens."""
    firsts = batch.target_lengths.cumsum(0) - batch.target_lengths
    return real_logits[firsts][:, None]


@every_model
def test_a_sentence_alone_equals_the_same_sentence_in_a_batch(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    together = logits_of(model, batch)
    for row, alone in enumerate(batch.split(len(LENGTHS))):
        length = LENGTHS[row][1]
        assert alone.source.shape == (1, LENGTHS[row][0])
        torch.testing.assert_close(
            logits_of(model, alone)[0], together[row, :length], atol=2e-5, rtol=1e-4
        )


@every_model
def test_a_later_target_token_never_changes_an_earlier_logit(name: str) -> None:
    model = ready_model(name)
    batch = a_batch([(5, 9), (8, 9)])
    before = logits_of(model, batch)
    for place in range(1, 9):
        changed = batch.target_in.clone()
        changed[:, place] = BOS_ID + 10 + changed[:, place] % 7
        changed[:, place] += changed[:, place] == batch.target_in[:, place]
        after = logits_of(model, replace(batch, target_in=changed))
        torch.testing.assert_close(after[:, :place], before[:, :place], atol=1e-6, rtol=0)
        assert not torch.allclose(after[:, place], before[:, place], atol=1e-3)


@every_model
def test_forced_score_of_a_beams_output_equals_the_beams_own(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    for length_penalty in (0.0, 1.0):
        found = search(model, batch, 6, length_penalty=length_penalty)
        assert [len(hypotheses) for hypotheses in found] == [4] * len(LENGTHS)
        for row, hypotheses in enumerate(found):
            for hypothesis in hypotheses:
                score = forced_score(model, batch, row, hypothesis, length_penalty)
                assert hypothesis.score == pytest.approx(score, abs=1e-4)


def forced_score(
    model: SearchedModel,
    batch: PairBatch,
    row: int,
    hypothesis: Hypothesis,
    length_penalty: float,
) -> float:
    """Return what `forward` makes of a hypothesis: its log probability over its length."""
    said = hypothesis.tokens if hypothesis.cut_off else [*hypothesis.tokens, EOS_ID]
    target = torch.tensor([said])
    forced = replace(
        batch,
        source=batch.source[row : row + 1],
        source_lengths=batch.source_lengths[row : row + 1],
        target_in=torch.cat([torch.tensor([[BOS_ID]]), target[:, :-1]], dim=1),
        target_out=target,
        target_lengths=torch.tensor([len(said)]),
    )
    log_probabilities = logits_of(model, forced).log_softmax(dim=-1)
    total = log_probabilities.gather(2, target[:, :, None]).sum()
    return float(total) / len(said) ** length_penalty


@every_model
def test_save_and_load_give_the_same_logits(name: str, tmp_path: Path) -> None:
    model, other, batch = ready_model(name), ready_model(name, seed=2), a_batch()
    weights = dict(model.named_parameters())
    path = save_checkpoint(tmp_path, "update-00000001", weights, {}, {})
    assert not torch.equal(logits_of(other, batch), logits_of(model, batch))
    put_weights(other, load_checkpoint(path, with_training=False).weights)
    assert torch.equal(logits_of(other, batch), logits_of(model, batch))


@pytest.mark.skipif(not can_prepack(), reason="this torch has no oneDNN")
@every_model
def test_packed_weights_say_the_same_and_leave_what_was_tied_to_them(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    embedding = model.get_parameter("target_embedding.weight")
    before, unpacked = logits_of(model, batch), embedding.clone()
    hypotheses = [[h.tokens for h in found] for found in search(model, batch, 6)]
    copy = prepacked(model)
    assert not any(isinstance(module, nn.Linear) for module in copy.modules())
    torch.testing.assert_close(logits_of(copy, batch), before, atol=1e-5, rtol=1e-5)
    if can_multiply_bf16():
        rounded = logits_of(prepacked(model, torch.bfloat16), batch)
        assert 0 < float((rounded - before).norm() / before.norm()) < 0.02
    assert [[h.tokens for h in found] for found in search(copy, batch, 6)] == hypotheses
    assert torch.equal(model.get_parameter("target_embedding.weight"), unpacked)
    assert torch.equal(logits_of(model, batch), before)


@every_model
def test_training_leaves_out_other_tokens_each_time(name: str) -> None:
    still = {key: 0.0 for key in ("dropout", "attention_dropout") if key in MODELS[name]}
    model = build({**MODELS[name], **still, "token_dropout": 0.5}).train()
    batch = a_batch()
    assert not torch.equal(logits_of(model, batch), logits_of(model, batch))
    model.eval()
    assert torch.equal(logits_of(model, batch), logits_of(model, batch))


@every_model
def test_tied_parameters_share_storage_and_stay_one(name: str, tmp_path: Path) -> None:
    """Source embedding, target embedding and output matrix are 1, 2 or 3 tensors."""
    wanted = {"all": 1, "decoder": 2, "none": 3}[MODELS[name]["tie_embeddings"]]

    def vocabulary_matrices(model: TranslationModel) -> list[Tensor]:
        return [
            parameter
            for _, parameter in model.named_parameters(remove_duplicate=False)
            if parameter.dim() == 2 and parameter.shape[0] in (SOURCE_VOCAB, TARGET_VOCAB)
        ]

    model = ready_model(name)
    matrices = vocabulary_matrices(model)
    assert len(matrices) == 3
    assert len({matrix.data_ptr() for matrix in matrices}) == wanted
    assert model.output.weight.data_ptr() in {matrix.data_ptr() for matrix in matrices}

    learn_pairs(model, a_batch(), 2, 1e-2)
    weights = dict(model.named_parameters())
    path = save_checkpoint(tmp_path, "update-00000001", weights, {}, {})
    stored = load_checkpoint(path, with_training=False).weights
    kept = [tensor for tensor in stored.values() if tensor.dim() == 2]
    assert sum(matrix.shape[0] in (SOURCE_VOCAB, TARGET_VOCAB) for matrix in kept) == wanted
    put_weights(model, stored)
    assert len({matrix.data_ptr() for matrix in vocabulary_matrices(model)}) == wanted


def learn_pairs(
    model: TranslationModel, batch: PairBatch, num_updates: int, learning_rate: float
) -> float:
    """Update on one batch again and again; return the last loss."""
    learner = make_learner(model, {"label_smoothing": 0.0})
    warmup = 10
    for number in range(num_updates):
        rate = learning_rate * min(1.0, (number + 1) / warmup)
        result = learner.update(number, [batch], rate)
    model.eval()
    return result.loss


@every_model
def test_it_overfits_8_pairs(name: str) -> None:
    torch.manual_seed(1)
    model = new_model(name, dropout=0.0, attention_dropout=0.0, token_dropout=0.0)
    lengths = [(4, 5), (6, 6), (2, 7), (7, 3), (5, 4), (3, 6), (6, 2), (4, 7)]
    batch = a_batch(lengths, seed=5)
    learn_pairs(model, batch, 80, 1e-2)
    with torch.inference_mode():
        found = greedy_search(model, batch.source, batch.source_lengths, [12] * 8, MARKS)
    said = [hypotheses[0].tokens for hypotheses in found]
    wanted = [
        tokens[: length - 1].tolist()
        for tokens, (_, length) in zip(batch.target_out, lengths, strict=True)
    ]
    assert said == wanted


@pytest.mark.parametrize(("name", "optimizer", "precision"), [
    (name, *(("adamw", "fp32"), ("muon", LOWEST))[number % 2]) for number, name in enumerate(MODELS)
])  # fmt: skip
def test_12_updates_equal_6_and_6_more_after_a_stop_bit_for_bit(
    name: str, optimizer: str, precision: str, small_task: Path, tmp_path: Path
) -> None:
    training = {"accumulate": 2, "optimizer": optimizer, "precision": precision}
    config = small_config(small_task, tmp_path / "one", training, MODELS[name])
    whole, _ = open_run(config)
    learn(whole, 12)
    resumed = run_in_two_sittings(config, 6, 12)
    assert resumed.state.position.epoch == 1, "the second half was to begin another epoch"
    assert_same_state(whole, resumed)


@pytest.fixture(scope="module")
def learnt_alone(small_task: Path) -> dict[str, Tensor]:
    return learn_with_every_model(small_task, ProcessGroup())


@pytest.fixture(scope="module")
def learnt_by_two(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """What two real processes learn together; one pair of them serves all models."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    output = tmp_path_factory.mktemp("two-processes") / "learnt.safetensors"
    command = [sys.executable, "-m", "tests.contract.sharing", str(small_task), str(output)]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **group, "RANK": rank, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
        )
        for rank in "01"
    ]
    errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return load_file(output)


@every_model
def test_one_process_with_4_batches_an_update_equals_two_with_2(
    name: str, learnt_alone: dict[str, Tensor], learnt_by_two: dict[str, Tensor]
) -> None:
    """Dropout on. Weights are not compared: AdamW makes as large a step of a gradient that is
    only rounding, such as that of a bias on attention's keys, as of any other."""
    assert learnt_alone.keys() == learnt_by_two.keys()
    for key in learnt_alone:
        if key.startswith(f"{name}/"):
            tolerance = {"atol": 1e-3, "rtol": 1e-3} if key.endswith("logits") else {
                "atol": 1e-6, "rtol": 1e-4}  # fmt: skip
            torch.testing.assert_close(learnt_by_two[key], learnt_alone[key], **tolerance)
    assert len({key for key in learnt_alone if key.startswith(f"{name}/")}) > 3


@needs_bf16
@every_model
def test_bf16_logits_are_near_those_of_fp32(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    expected = logits_of(model, batch)
    with choose_precision("bf16", "cpu").autocast(), torch.inference_mode():
        halves = [model.logits(batch)[:, 0].float()]
        state = model.encode(batch.source, batch.source_lengths)
        halves.append(model.step(batch.target_in[:, :1], state)[0][:, 0].float())
    for half in halves:
        assert float((half - expected[:, 0]).norm() / expected[:, 0].norm()) < 0.02


@every_model
def test_what_it_cannot_be_exported_to_is_told_with_the_key_that_forbids_it(name: str) -> None:
    limits = new_model(name).export_limits
    assert limits.keys() <= {"ctranslate2", "huggingface"}
    unusual = "transformer-modern", "transformer-sparse"
    plain = name.startswith("transformer") and name not in unusual
    assert bool(limits) is not plain
    for reason in limits.values():
        for key, value in (
            part.split(": ") for part in reason.removeprefix("model.").split(", model.")
        ):
            setting = MODELS[name][key]
            assert value == (setting["type"] if isinstance(setting, dict) else setting)
