"""What a BERT and its masked batches must satisfy: as the other models' contract, for text.

Shapes: R rows of packed texts, L their width, K masked tokens a row, D width, V vocabulary.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from mtrain.checkpoints.format import load_checkpoint, save_checkpoint
from mtrain.checkpoints.weights import put_weights
from mtrain.config import load_config
from mtrain.data.batch import Batch, MaskedBatch
from mtrain.data.makers.masked import MaskedMaker
from mtrain.data.makers.texts import pad_texts
from mtrain.data.store import Column
from mtrain.distributed.group import ProcessGroup
from mtrain.models import build_model
from mtrain.nn import block_sparse
from mtrain.nn.output import IGNORE_INDEX
from mtrain.training.build import Setup
from tests.in_process import (
    LOWEST,
    assert_same_state,
    learn,
    open_run,
    open_setup,
    run_in_two_sittings,
)
from tests.text_task import (
    SMALL_BERT,
    bert_config,
    prepare_text_task,
    random_ids,
    ready_bert,
    tokenizer_of,
)

CONFIGS = Path(__file__).parents[2] / "configs"
LARGE_TEXT = 2_000  # texts to count masks in
every_kind = pytest.mark.parametrize("kind", ["text", "pairs"])


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small task, prepared as text and as pairs."""
    folder = tmp_path_factory.mktemp("text-task")
    prepare_text_task(folder, "text")
    return prepare_text_task(folder, "pairs")


def maker_of(
    task: Path, first: Sequence[Sequence[int]], second: Sequence[Sequence[int]] | None = None,
    training: dict[str, Any] | None = None, **keys: Any,
) -> MaskedMaker:  # fmt: skip
    second = [[] for _ in first] if second is None else second
    config = bert_config(task, task / "run", training, **keys)
    return MaskedMaker(Column.of(first), Column.of(second), tokenizer_of(task), config)


def original(batch: MaskedBatch) -> Tensor:
    """Return the tokens (R,L) before they were masked."""
    tokens = batch.tokens.clone()
    rows, places = torch.nonzero(batch.targets != IGNORE_INDEX, as_tuple=True)
    tokens[rows, batch.masked[rows, places]] = batch.targets[rows, places]
    return tokens


def is_masked(batch: MaskedBatch) -> Tensor:
    """Return which tokens (R,L) are to be predicted."""
    marks = torch.zeros_like(batch.tokens, dtype=torch.bool)
    rows, places = torch.nonzero(batch.targets != IGNORE_INDEX, as_tuple=True)
    marks[rows, batch.masked[rows, places]] = True
    return marks


def masks_by_text(batches: Sequence[Batch]) -> dict[tuple[int, ...], tuple[bool, ...]]:
    """Return which tokens of each text, given by its ids, are to be predicted."""
    found = {}
    for batch in batches:
        assert isinstance(batch, MaskedBatch)
        marks, tokens = is_masked(batch), original(batch)
        for row in range(batch.num_rows):
            for number in range(int(batch.sentences[row].max()) + 1):
                here = batch.sentences[row] == number
                found[tuple(tokens[row, here].tolist())] = tuple(marks[row, here].tolist())
    return found


@every_kind
def test_packing_and_filler_change_nothing(kind: str, task: Path) -> None:
    model, tokenizer = ready_bert(), tokenizer_of(task)
    first = random_ids(tokenizer, [5, 9, 1, 30, 12, 44, 3, 60, 8])
    second = random_ids(tokenizer, [4, 7, 2, 33, 9, 40, 1, 50, 6], 2) if kind == "pairs" else None
    maker = maker_of(task, first, second)
    batch = maker.make(maker.plan_in_order(np.arange(9))[0], seed=3)
    filler = batch.sentences < 0
    assert filler.any()
    noise = torch.randint_like(batch.tokens, 5, 340)
    with torch.inference_mode():
        packed = model.hidden_states(batch)
        noisy = model.hidden_states(replace(batch, tokens=torch.where(filler, noise, batch.tokens)))
        torch.testing.assert_close(noisy[~filler], packed[~filler], atol=2e-5, rtol=1e-4)
        num_texts = 0
        for row in range(batch.num_rows):
            for number in range(int(batch.sentences[row].max()) + 1):
                here = batch.sentences[row] == number
                if kind == "text":  # in the way of `fill`, whose batches have one text a row
                    alone = pad_texts([batch.tokens[row, here][:-1].tolist()], [[0]], 3)
                    assert torch.equal(alone.positions[0], batch.positions[row, here])
                else:
                    alone = replace(
                        batch, tokens=batch.tokens[row, here][None],
                        positions=batch.positions[row, here][None],
                        sentences=torch.zeros(1, int(here.sum()), dtype=torch.long),
                    )  # fmt: skip
                states = model.hidden_states(alone)[0]
                torch.testing.assert_close(states, packed[row, here], atol=2e-5, rtol=1e-4)
                num_texts += 1
    assert num_texts == 9


def test_texts_of_other_lengths_in_a_padded_batch_change_nothing(task: Path) -> None:
    model = ready_bert()
    texts = random_ids(tokenizer_of(task), [5, 40, 1])
    with torch.inference_mode():
        together = model(pad_texts(texts, [[0, 3], [7], [0]], 3)).features.view(3, 2, -1)
        for row, places in enumerate([[0, 3], [7], [0]]):
            alone = model(pad_texts([texts[row]], [places], 3)).features
            torch.testing.assert_close(
                together[row, : len(places)], alone, atol=2e-5, rtol=1e-4
            )  # fmt: skip


def test_masks_follow_from_the_seed_and_differ_between_epochs(task: Path, tmp_path: Path) -> None:
    def epoch(number: int, seed: int = 1) -> list[Batch]:
        setup = open_setup(bert_config(task, tmp_path / "run", seed=seed))
        batches: list[Batch] = []
        for planned in setup.updates(0, number, 0):
            batches += planned.batches
            if planned.next_epoch > number:
                return batches
        raise AssertionError

    first, again, second, other = epoch(0), epoch(0), epoch(1), epoch(0, seed=2)
    for one, same in zip(first, again, strict=True):
        assert all(map(torch.equal, one.tensors(), same.tensors()))
    masks = [masks_by_text(batches) for batches in (first, second, other)]
    assert masks[0].keys() == masks[1].keys() == masks[2].keys()
    assert len(masks[0]) == 600
    for changed in masks[1:]:
        same_masks = sum(masks[0][text] == changed[text] for text in changed)
        assert same_masks < 0.4 * len(changed)  # many texts have no mask


@pytest.mark.parametrize("whole_words", [False, True])
def test_15_percent_are_predicted_and_of_these_80_10_10_masked_random_and_kept(
    whole_words: bool, task: Path
) -> None:
    tokenizer = tokenizer_of(task)
    texts = random_ids(tokenizer, [8 + number % 9 for number in range(LARGE_TEXT)])
    maker = maker_of(task, texts, training={"mask_whole_words": whole_words, "batch_tokens": 4096})
    counts: Counter[str] = Counter()
    plan = maker.plan(np.arange(LARGE_TEXT), seed=1, epoch=0)
    for number, rows in enumerate(plan):
        batch = maker.make(rows, number)
        marks, right = is_masked(batch), original(batch)
        is_real = batch.sentences >= 0
        counts["text"] += int((is_real & (right != tokenizer.eos_id)).sum())
        counts["predicted"] += int(marks.sum())
        counts["masked"] += int((batch.tokens == tokenizer.mask_id).sum())
        counts["kept"] += int((marks & (batch.tokens == right)).sum())
        assert batch.num_target_tokens == int(marks.sum())
        assert torch.equal(batch.tokens[~marks], right[~marks])
    assert counts["text"] == sum(map(len, texts))
    assert counts["predicted"] / counts["text"] == pytest.approx(0.15, abs=0.01)
    assert counts["masked"] / counts["predicted"] == pytest.approx(0.8, abs=0.025)
    assert counts["kept"] / counts["predicted"] == pytest.approx(0.1, abs=0.025)


def test_whole_words_are_masked_together(task: Path) -> None:
    tokenizer = tokenizer_of(task)
    starts = np.array(tokenizer.is_word_start)
    texts = random_ids(tokenizer, [1 + number % 40 for number in range(500)])
    parts = Counter[bool]()  # of words, masked without the rest
    for wanted in (False, True):
        training = {"mask_whole_words": wanted, "batch_tokens": 1024}
        maker = maker_of(task, texts, training=training)
        for number, rows in enumerate(maker.plan_in_order(np.arange(500))):
            for ids, marks in masks_by_text([maker.make(rows, number)]).items():
                words: list[list[bool]] = []
                for token, mark in zip(ids[:-1], marks[:-1], strict=True):
                    words += [[]] if starts[token] or not words else []
                    words[-1].append(mark)
                short = [word for word in words if len(word) <= 20]  # as many as a row predicts
                parts[wanted] += sum(any(word) and not all(word) for word in short)
    assert parts[True] == 0
    assert parts[False] > 100


def test_words_longer_than_what_a_row_predicts_are_masked_token_by_token(task: Path) -> None:
    """As sentences in a script without spaces between words."""
    tokenizer = tokenizer_of(task)
    inner = [i for i in tokenizer.ordinary_ids if not tokenizer.is_word_start[i]]
    texts = [[row % 50 + inner[1], *([inner[2]] * 60)] for row in range(40)]
    maker = maker_of(task, texts, training={"mask_whole_words": True})
    marks = torch.cat(
        [is_masked(maker.make(rows, 1)) for rows in maker.plan_in_order(np.arange(40))]
    )
    assert 0.12 < marks.sum() / (40 * 61) < 0.16
    assert (marks[:, 1:] & marks[:, :-1]).sum() < 0.5 * marks.sum()


@every_kind
def test_end_marks_prefixes_and_filler_are_never_masked(kind: str, task: Path) -> None:
    tokenizer = tokenizer_of(task)
    prefix = tokenizer.pieces([tokenizer.ordinary_ids[-1]])[0]  # any piece that text has not
    prefix_id = tokenizer.id_of(prefix)
    random = random_ids(tokenizer, [number % 7 + 1 for number in range(300)])
    texts = [[prefix_id, *(word for word in row if word != prefix_id)] for row in random]
    settings = {"vocab_size": 340, "source_prefix": prefix, "target_prefix": prefix}
    maker = maker_of(
        task, texts, texts if kind == "pairs" else None, {"masked_share": 0.9}, tokenizer=settings
    )
    for number, rows in enumerate(maker.plan_in_order(np.arange(300))):
        batch = maker.make(rows, number)
        marks, right = is_masked(batch), original(batch)
        never = (right == tokenizer.eos_id) | (right == prefix_id) | (batch.sentences < 0)
        assert not (marks & never).any()
        assert marks.sum() > 0.8 * (~never).sum()


def test_a_pair_is_read_together_with_positions_that_run_on_and_a_text_alone(task: Path) -> None:
    model, tokenizer = ready_bert(), tokenizer_of(task)
    first, second = random_ids(tokenizer, [5, 8]), random_ids(tokenizer, [6, 3], seed=2)
    maker = maker_of(task, first, second)
    batch = maker.make(np.array([[0, 1]]))
    real = batch.sentences[0] >= 0
    sizes = [13, 13]  # with an end mark after each side
    expected = [place for size in sizes for place in range(size)]
    assert batch.positions[0, real].tolist() == expected
    assert batch.sentences[0, real].tolist() == [0] * 13 + [1] * 13
    other = batch.tokens.clone()
    other[0, 8] = 7 + other[0, 8] % 300  # in the second side of the first pair
    assert other[0, 8] != batch.tokens[0, 8]
    with torch.inference_mode():
        before, after = (model.hidden_states(replace(batch, tokens=tokens))[0]
                         for tokens in (batch.tokens, other))  # fmt: skip
    assert not torch.isclose(before[:13], after[:13]).all(dim=1).any()
    assert torch.equal(before[13:26], after[13:26])


def test_embedding_and_output_share_storage_and_are_saved_once(tmp_path: Path) -> None:
    model = ready_bert()
    assert model.output.weight.data_ptr() == model.source_embedding.weight.data_ptr()
    weights = dict(model.named_parameters())
    path = save_checkpoint(tmp_path, "update-00000001", weights, {}, {})
    stored = load_checkpoint(path, with_training=False).weights
    assert sum(tensor.shape == model.output.weight.shape for tensor in stored.values()) == 1
    assert model.output.bias is not None


def test_save_and_load_give_the_same_logits(task: Path, tmp_path: Path) -> None:
    model, other = ready_bert(), ready_bert(seed=2)
    batch = pad_texts(random_ids(tokenizer_of(task), [5, 9]), [[0, 2], [8]], 3)
    with torch.inference_mode():
        wanted, different = (each.output(each(batch).features) for each in (model, other))
        assert not torch.equal(wanted, different)
        path = save_checkpoint(
            tmp_path, "update-00000001", dict(model.named_parameters()), {}, {}
        )  # fmt: skip
        put_weights(other, load_checkpoint(path, with_training=False).weights)
        assert torch.equal(other.output(other(batch).features), wanted)
    assert other.output.weight.data_ptr() == other.source_embedding.weight.data_ptr()


@pytest.mark.parametrize(
    ("name", "published"), [("bert-base", 110_000_000), ("bert-large", 340_000_000)]
)
def test_the_presets_have_the_published_parameters(name: str, published: int) -> None:
    """The published counts are rounded; those of `transformers` are exact."""
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.tokenizer.vocab_size == 30_522
    assert config.model.max_positions == 512
    layers = config.model.model_dump()
    sizes = {"hidden_size": "d_model", "num_hidden_layers": "encoder_layers",
             "num_attention_heads": "num_heads", "intermediate_size": "ffn_dim"}  # fmt: skip
    settings = {theirs: layers[ours] for theirs, ours in sizes.items()}
    with torch.device("meta"):
        ours = build_model(config, 30_522, 30_522)
        theirs = transformers.BertForMaskedLM(transformers.BertConfig(**settings))
    count = sum(parameter.numel() for parameter in ours.parameters())
    segments = 2 * settings["hidden_size"]
    assert count == sum(parameter.numel() for parameter in theirs.parameters()) - segments
    assert count == pytest.approx(published, rel=0.02)


def update_with(setup: Setup, number: int, batches: Sequence[Batch], rate: float) -> float:
    num_tokens = sum(batch.num_target_tokens for batch in batches)
    return setup.updater.update(number, batches, num_tokens, rate, lambda: None).loss


def has_no_twins(batch: Batch) -> bool:
    """Return whether no two masks stand at the same position of both sides of a pair.

    Nothing tells such two from each other: sides have no embeddings of their own.
    """
    assert isinstance(batch, MaskedBatch)
    marks = is_masked(batch)
    places = zip(batch.sentences[marks].tolist(), batch.positions[marks].tolist(), strict=True)
    return max(Counter(places).values()) == 1


@every_kind
def test_it_overfits_8_texts(kind: str, task: Path, tmp_path: Path) -> None:
    model = {**SMALL_BERT, "dropout": 0.0, "attention_dropout": 0.0}
    training = {"masked_share": 0.3}
    setup = open_setup(bert_config(task, tmp_path / "run", training, kind, model=model))
    batch = next(filter(has_no_twins, (setup.maker.make(np.arange(8)[None], n) for n in range(99))))
    for number in range(60):
        update_with(setup, number, [batch], 5e-3 * min(1.0, (number + 1) / 10))
    setup.state.model.eval()
    with torch.inference_mode():
        predictions = setup.state.model(batch)
        said = setup.state.model.output(predictions.features).argmax(dim=-1)
    is_real = predictions.targets != IGNORE_INDEX
    assert is_real.sum() > 8
    assert torch.equal(said[is_real], predictions.targets[is_real])


def test_20_updates_equal_10_and_10_more_after_a_stop_bit_for_bit(
    task: Path, tmp_path: Path
) -> None:
    training = {"accumulate": 2, "optimizer": "muon", "precision": LOWEST}
    config = bert_config(task, tmp_path / "one", training)
    whole, _ = open_run(config)
    learn(whole, 20)
    resumed = run_in_two_sittings(config, 10, 20)
    assert_same_state(whole, resumed)


def test_two_batches_an_update_equal_one_batch_of_both(task: Path, tmp_path: Path) -> None:
    """Gradients before the optimiser: their sum over slices is that of the whole."""
    model = {**SMALL_BERT, "dropout": 0.0, "attention_dropout": 0.0}
    gradients: list[dict[str, Tensor]] = []
    losses = []
    for parts in (1, 2, 4):
        setup = open_setup(bert_config(task, tmp_path / "run", model=model))
        whole = next(setup.updates(0, 0, 0)).batches[0]
        batches = whole.split(parts)
        assert len(batches) == parts
        assert sum(batch.num_target_tokens for batch in batches) == whole.num_target_tokens
        losses.append(update_with(setup, 0, batches, 1e-3))
        gradients.append({name: parameter.grad for name, parameter
                          in setup.state.model.named_parameters()
                          if parameter.grad is not None})  # fmt: skip
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-5)
    for other in gradients[1:]:
        assert other.keys() == gradients[0].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(other[name], gradient, atol=1e-6, rtol=1e-4)


def test_a_validation_is_the_same_each_time_and_learning_lowers_its_loss(
    task: Path, tmp_path: Path
) -> None:
    setup = open_setup(bert_config(task, tmp_path / "run"))

    def validate() -> dict[str, Any]:
        found = setup.validator.validate(setup.state.model, lambda count: None, ProcessGroup())
        return found.as_dict()

    assert validate() == validate()
    assert validate()["accuracy"] < 20  # it has learnt nothing
    before = validate()["loss"]
    learn(setup, 30)
    assert validate()["loss"] < before - 1


def test_training_leaves_out_other_tokens_each_time() -> None:
    model = ready_bert(dropout=0.0, attention_dropout=0.0, token_dropout=0.5)
    batch = pad_texts([[10, 11, 12, 13, 14, 15, 16]], [[0]], 3)

    def is_the_same() -> bool:
        return torch.equal(model.hidden_states(batch), model.hidden_states(batch))

    assert is_the_same()
    model.train()
    assert not is_the_same()


@pytest.mark.parametrize("dense_up_to", [0, 1024])
def test_a_text_has_the_same_states_in_a_packed_batch_with_block_sparse_attention(
    dense_up_to: int, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_sparse, "DENSE_UP_TO", dense_up_to)
    pattern = {"type": "block_sparse", "block_size": 4, "random_blocks": 1}
    model, tokenizer = ready_bert(encoder_attention=pattern), tokenizer_of(task)
    lengths = [5, 60, 9, 40, 1, 30]
    maker = maker_of(task, random_ids(tokenizer, lengths))
    batch = maker.make(maker.plan_in_order(np.arange(len(lengths)))[0], seed=3)
    num_texts = 0
    with torch.inference_mode():
        packed = model.hidden_states(batch)
        for row in range(batch.num_rows):
            for number in range(int(batch.sentences[row].max()) + 1):
                here = batch.sentences[row] == number
                alone = pad_texts([batch.tokens[row, here][:-1].tolist()], [[0]], 3)
                states = model.hidden_states(alone)[0]
                torch.testing.assert_close(states, packed[row, here], atol=2e-5, rtol=1e-4)
                num_texts += 1
        full = ready_bert().hidden_states(batch)
    assert num_texts == len(lengths)
    long = batch.sentences >= 0
    assert not torch.allclose(full[long], packed[long], atol=1e-3)
