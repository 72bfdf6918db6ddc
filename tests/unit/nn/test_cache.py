"""The cache of self-attention: what is read is what was written, and nothing else is seen."""

import pytest
import torch

from mtrain.nn.cache import Kept, KeyValueCache, Past


def test_each_hypothesis_sees_its_own_past_whatever_room_there_is() -> None:
    """Three hypotheses a sentence for thirty steps; after each the second goes on as the first."""
    cache = KeyValueCache()
    past = Past([cache], torch.zeros(2, 1, 1, 0))
    histories: list[list[list[float]]] = [[[]], [[]]]  # sentence, hypothesis, tokens
    sizes = set()
    for step in range(30):
        count = len(histories[0])
        past.extend(count)
        new = torch.tensor([[100.0 * b + 1000 * k + step for k in range(count)] for b in range(2)])
        keys, values = cache.append(new[:, None, :, None], -new[:, None, :, None])
        assert keys.is_contiguous()
        assert keys.shape[2] == past.mask.shape[3]
        assert torch.equal(keys, -values)
        sizes.add(keys.shape[2])
        for b, k in ((b, k) for b in range(2) for k in range(count)):
            histories[b][k] = [*histories[b][k], float(new[b, k])]
            seen = keys[b, 0, past.mask[b, 0, k] == 0, 0]
            assert seen.tolist() == histories[b][k]
        parents = torch.tensor([[0, 0, count - 1]] * 2)
        past.reorder(parents)
        histories = [[history[k] for k in parents[0].tolist()] for history in histories]
    assert len(sizes) < 10  # few, so that few products have to be prepared


@pytest.mark.parametrize("rows", [[], [0], [2, 0], [0, 1, 2, 3, 4], [0, 4, 2], [3, 3], [4, 0, 1]])
def test_rows_kept_are_those_asked_for_and_what_stays_is_not_copied(rows: list[int]) -> None:
    part = torch.arange(20.0).view(5, 2, 2)
    expected = part[torch.tensor(rows, dtype=torch.long)]
    kept = Kept(torch.tensor(rows, dtype=torch.long)).of(part)
    assert torch.equal(kept, expected)
    assert kept.untyped_storage().data_ptr() == part.untyped_storage().data_ptr()


def test_what_is_kept_of_some_sentences_is_theirs() -> None:
    cache = KeyValueCache()
    past = Past([cache], torch.zeros(3, 1, 1, 0))
    for step in range(3):
        past.extend(1)
        cache.append(*(torch.arange(3.0).view(3, 1, 1, 1) + 10 * step for _ in range(2)))
    kept = past.keep(Kept(torch.tensor([2, 0])))
    kept.extend(1)
    keys, _ = kept.caches[0].append(*(torch.full((2, 1, 1, 1), 30.0) for _ in range(2)))
    for row, sentence in enumerate((2.0, 0.0)):
        seen = keys[row, 0, kept.mask[row, 0, 0] == 0, 0]
        assert seen.tolist() == [sentence, sentence + 10, sentence + 20, 30]
