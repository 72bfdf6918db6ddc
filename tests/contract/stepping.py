"""Searching step by step, compared with reading everything at once."""

from dataclasses import replace

import torch
from torch import Tensor

from mtrain.data.batch import PairBatch
from mtrain.models import SearchedModel
from tests.contract.models import TARGET_VOCAB
from tests.in_process import BOS_ID


def check_steps(model: SearchedModel, batch: PairBatch) -> None:
    """Step with as many hypotheses as a search likes, forked, dropped, and sentences leaving.

    The batch has five sentences.
    """
    generator = torch.Generator().manual_seed(3)
    sentences = torch.arange(len(batch.source))
    histories = torch.full((len(sentences), 1, 1), BOS_ID)
    with torch.inference_mode():
        state = model.encode(batch.source, batch.source_lengths, features=batch.source_features)
        for num_hypotheses in (3, 3, 4, 2, 2, 5, 1, 3, 3, 3):
            logits, state = model.step(histories[:, :, -1], state)
            expected = last_logits(model, batch, sentences, histories)
            torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-4)
            shape = (len(sentences), num_hypotheses)
            parents = torch.randint(histories.shape[1], shape, generator=generator)
            state = state.reorder(parents)
            histories = histories.gather(1, parents[:, :, None].expand(-1, -1, histories.shape[2]))
            new = torch.randint(TARGET_VOCAB, (*shape, 1), generator=generator)
            histories = torch.cat([histories, new], dim=2)
            if num_hypotheses == 2 and len(sentences) > 2:
                kept = torch.tensor([4, 1, 3] if len(sentences) == 5 else [2, 0])
                state, histories, sentences = state.keep(kept), histories[kept], sentences[kept]
    assert sentences.tolist() == [3, 4]


def last_logits(
    model: SearchedModel, batch: PairBatch, sentences: Tensor, histories: Tensor
) -> Tensor:
    """Return by `forward` the logits (B,K,V) that follow histories (B,K,t)."""
    num_sentences, num_hypotheses, length = histories.shape
    rows = sentences.repeat_interleave(num_hypotheses)
    of_source = ("source", "source_lengths", "features", "feature_lengths")
    given = {name: getattr(batch, name) for name in of_source}
    unrolled = replace(
        batch,
        **{name: None if tensor is None else tensor[rows] for name, tensor in given.items()},
        target_in=histories.flatten(0, 1),
        target_lengths=torch.full((len(rows),), length),
    )
    logits: Tensor = model.logits(unrolled)[:, -1]
    return logits.view(num_sentences, num_hypotheses, -1)
