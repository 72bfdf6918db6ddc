"""Search engines: token ids in, hypotheses out, in batches of similar lengths.

Depends on the model contract only. Other engines implement `Engine` (exchange/ctranslate2/).
"""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial

import numpy as np
import torch

from mtrain.config.decoding import DecodingConfig
from mtrain.data.batch import pad
from mtrain.data.plan import derive_seed, plan_in_order
from mtrain.data.store import IntArray
from mtrain.decoding.beam import beam_search
from mtrain.decoding.greedy import greedy_search
from mtrain.decoding.hypothesis import Hypothesis, Marks, Scoring
from mtrain.decoding.sampling import sample_search
from mtrain.decoding.source_features import SourceFeatures, features_of
from mtrain.models.base import Head, SearchedModel
from mtrain.nn.feature_attention import Features
from mtrain.runtime.threads import ordered_map
from mtrain.text.tokenizer import TokenizerPair

# 1, 2 or 4 threads share a multiple of 4 batches evenly; batches do not depend on the threads
EVEN = 4
LEAST = 768  # fewest source tokens times hypotheses that justify a thread
EXTRA_LENGTH = 10  # tokens that any output may have in addition to max_length_ratio

Found = tuple[int, list[Hypothesis]]  # index of a source, and its hypotheses, best first
Place = tuple[int, int]  # number of a line in its text, and of a segment in the line


class Engine(ABC):
    """The contract of a search engine; the configuration sets the search."""

    def __init__(
        self,
        decoding: DecodingConfig,
        max_positions: int,
        device: torch.device,
        target_prefix: Sequence[int] = (),
    ) -> None:
        self.max_ids = max_positions - 1  # most ids of a source or target, without the end mark
        self._target_prefix = target_prefix  # hypotheses come without it
        self._decoding = decoding
        self._device = device

    @abstractmethod
    def search(
        self,
        sources: Sequence[list[int]],
        texts: Sequence[str] = (),
        places: Sequence[Place] = (),
    ) -> Iterator[Found]:
        """Yield one item a source, in any order.

        No source may be empty or longer than `max_ids`. `texts` are those of the sources, for a
        model that reads features of them; samples depend on `places`, by default the index of each
        source. Fewer than n_best hypotheses may come.
        """

    def _batches(self, sources: Sequence[list[int]]) -> Iterator[list[int]]:
        """Yield the indices of the sources of each batch, long sources first."""
        lengths = np.array([len(ids) + 1 for ids in sources], dtype=np.int64)
        options, device = self._decoding, self._device.type
        tokens = options.tokens_at_once(device)
        if device == "cpu":
            plan = _even_plan(lengths, tokens, max(1, LEAST // options.hypotheses_at_once))
        else:  # a GPU runs one batch at a time and gains nothing from even ones
            plan = plan_in_order(lengths, lengths, tokens)
        for rows in plan:
            yield rows.tolist()

    def _limit(self, source: list[int]) -> int:
        """Return the maximum length of a translation."""
        longest = int(self._decoding.max_length_ratio * len(source)) + EXTRA_LENGTH
        return min(self.max_ids - len(self._target_prefix), longest)


def _even_plan(lengths: IntArray, batch_tokens: int, least: int) -> list[IntArray]:
    """Return batches as `plan_in_order` does, but of about equal size for threads to share.

    Aims for `EVEN` batches, else two, if each then has `least` tokens; for more if `batch_tokens`
    requires it. A number above two is a multiple of `EVEN` where the lengths allow it.
    """
    plan = partial(plan_in_order, lengths, lengths)
    fewest = plan(batch_tokens)
    worthwhile = min(EVEN, int(lengths.sum()) // least)
    most = max(len(fewest), worthwhile // 2 * 2)
    if most > 2:
        most += -most % EVEN
    if most == len(fewest) == 1:
        return fewest
    return plan(bisect_left(range(batch_tokens), x=True, key=lambda size: len(plan(size)) <= most))


class TorchEngine(Engine):
    """Beam search, greedy search and sampling in PyTorch."""

    def __init__(
        self,
        model: SearchedModel,
        tokenizers: TokenizerPair,
        decoding: DecodingConfig,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[None]],
        seed: int,
        head: Head,
        source_features: SourceFeatures | None = None,
    ) -> None:
        target = tokenizers.target
        super().__init__(decoding, model.max_positions, device, target.prefix)
        self._model = model
        self._source_end = tokenizers.source.eos_id
        self._marks = Marks((target.bos_id, *target.prefix), target.eos_id)
        self._scoring = Scoring.of(decoding, head)
        self._autocast = autocast
        self._seed = seed
        self._source_features = source_features

    def search(
        self,
        sources: Sequence[list[int]],
        texts: Sequence[str] = (),
        places: Sequence[Place] = (),
    ) -> Iterator[Found]:
        places = places or [(number, 0) for number in range(len(sources))]

        def search_batch(rows: list[int]) -> list[list[Hypothesis]]:
            features = features_of(self._source_features, texts, rows)
            own_places = [places[row] for row in rows]
            return self._search_batch([sources[row] for row in rows], features, own_places)

        batches = list(self._batches(sources))
        with ordered_map(search_batch, self._device) as each:
            for rows, found in zip(batches, each(batches), strict=True):
                yield from zip(rows, found, strict=True)

    def _search_batch(
        self, sources: Sequence[list[int]], features: Features | None, places: Sequence[Place]
    ) -> list[list[Hypothesis]]:
        eos_id = self._source_end
        source = pad([[*ids, eos_id] for ids in sources], eos_id).to(self._device)
        lengths = torch.tensor([len(ids) + 1 for ids in sources], device=self._device)
        limits = [self._limit(ids) for ids in sources]
        options = self._decoding
        self._model.eval()
        with torch.inference_mode(), self._autocast():
            if options.is_greedy:
                return greedy_search(
                    self._model, source, lengths, limits, self._marks,
                    self._scoring.repetition_guard, features,
                )  # fmt: skip
            if options.method == "beam":
                return beam_search(
                    self._model, source, lengths, limits, self._marks,
                    options.beam_size, options.n_best, self._scoring, features,
                )  # fmt: skip
            seeds = [derive_seed(self._seed, "sample", *place) for place in places]
            return sample_search(
                self._model, source, lengths, limits, self._marks,
                options.n_best, self._scoring,
                options.temperature, options.top_k, options.top_p,
                seeds, features,
            )  # fmt: skip
