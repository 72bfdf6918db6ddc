"""What every model tells of its attention, to whoever asks and to nobody else."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtrain.config import Config
from mtrain.errors import UserError
from mtrain.models import alignment_head
from mtrain.models.base import AttentionRecord, Head
from tests.contract.models import MODELS, TARGET_VOCAB
from tests.contract.test_models import LENGTHS, a_batch, ready_model
from tests.in_process import real_places, small_config

ATTENTIVE = [name for name in MODELS if name not in ("rnn-sutskever", "rnn-cho")]
attentive_model = pytest.mark.parametrize("name", ATTENTIVE)


@attentive_model
def test_asking_for_attention_changes_nothing_else(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    with torch.inference_mode():
        plain = model.features(batch)
        noted = model.features(batch, AttentionRecord())
    torch.testing.assert_close(noted, plain, atol=2e-5, rtol=1e-4)


@attentive_model
def test_every_row_of_every_head_is_a_distribution_over_what_may_be_seen(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    with torch.inference_mode():
        weights = model.attention(batch)
    decoder_only = name.startswith("decoder-only")
    assert set(weights) == (
        {"decoder"} if decoder_only else {"cross"} if name.startswith("rnn") else
        {"encoder", "decoder", "cross"})  # fmt: skip
    for matrix in weights.values():
        torch.testing.assert_close(matrix.sum(-1), torch.ones(matrix.shape[:-1]))
    layers, heads = model.source_heads
    main = weights["decoder" if decoder_only else "cross"]
    assert main.shape[:3] == (len(LENGTHS), layers, heads)
    source_width = batch.source.shape[1]
    for row, (source_length, _) in enumerate(LENGTHS):
        assert not main[row, ..., source_length:source_width].any()
    if "decoder" in weights:
        first_target = source_width if decoder_only else 0
        own = weights["decoder"][..., first_target:, first_target:]
        assert not own.triu(1).any()


@attentive_model
def test_alignment_is_over_the_real_source_and_equals_what_search_watches(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    layers, heads = model.source_heads
    for head in (Head(), Head(layer=1), Head(layer=layers, head=heads)):
        with torch.inference_mode():
            alignment = model.alignment(batch, head)
            watched = watch(name, head)
        assert alignment.shape == (*batch.target_in.shape, batch.source.shape[1])
        torch.testing.assert_close(alignment.sum(-1), torch.ones(alignment.shape[:2]))
        real = real_places(batch)
        torch.testing.assert_close(watched[real], alignment[real], atol=2e-5, rtol=1e-4)


def watch(name: str, head: Head) -> Tensor:
    """Return what a search notes (B,T,S) that writes the batch's target."""
    model, batch = ready_model(name), a_batch()
    state = model.encode(batch.source, batch.source_lengths, head)
    seen = []
    for place in range(batch.target_in.shape[1]):
        tokens = batch.target_in[:, place : place + 1]
        logits, state = model.step(tokens, state)
        assert logits.shape[-1] == TARGET_VOCAB
        assert state.attention is not None
        seen.append(state.attention)
        state = state.reorder(torch.zeros_like(tokens))
    return torch.cat(seen, dim=1)


@attentive_model
def test_a_record_of_one_layer_holds_that_layer(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    layers = model.source_heads[0]
    with torch.inference_mode():
        everything = model.attention(batch)
        kind = "cross" if "cross" in everything else "decoder"
        record = model.record_of(Head(layer=layers))
        model.features(batch, record)
    assert list(record.by_kind()) == [kind]
    torch.testing.assert_close(record.weights(kind, layers - 1), everything[kind][:, layers - 1])


@attentive_model
def test_a_layer_or_head_that_does_not_exist_is_refused_by_name(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    layers, heads = model.source_heads
    for head, words in (
        (Head(layer=layers + 1), f"no layer {layers + 1}: this model's are 1 to {layers}"),
        (Head(layer=0), "no layer 0"),
        (Head(head=heads + 1), f"no head {heads + 1}: this model's are 1 to {heads}"),
    ):
        with pytest.raises(UserError, match=words):
            model.alignment(batch, head)
        with pytest.raises(UserError, match=words):
            model.encode(batch.source, batch.source_lengths, head)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ATTENTIVE])
def test_a_model_without_attention_says_so(name: str) -> None:
    model, batch = ready_model(name), a_batch()
    assert model.attention(batch) == {}
    with pytest.raises(UserError, match="no attention over the source"):
        model.alignment(batch, Head())


@pytest.mark.parametrize(
    ("given", "weight", "asked", "expected"),
    [(True, 0.05, None, 1), (True, 0.0, None, None), (False, 0.05, None, None), (True, 0.05, 2, 2)],
)
def test_the_first_head_aligns_where_alignments_guide_it(
    given: bool, weight: float, asked: int | None, expected: int | None, tmp_path: Path
) -> None:
    config = small_config(tmp_path, tmp_path / "run", {"alignment_weight": weight}).model_dump()
    config["decoding"]["alignment_head"] = asked
    config["data"]["train"][0] |= {"alignments": "a.align"} if given else {}
    assert alignment_head(Config.model_validate(config)) == Head(None, expected)
