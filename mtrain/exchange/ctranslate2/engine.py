"""CTranslate2 as a search engine, on an export of the model.

Before an export translates, its log probabilities are compared with those of the model that it
was made from.

Shapes: T target tokens, the end mark included.
"""

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import torch

from mtrain.config import Config
from mtrain.config.decoding import DecodingConfig
from mtrain.console import say, warn
from mtrain.decoding.engine import Engine, Found, Place
from mtrain.decoding.hypothesis import Hypothesis
from mtrain.errors import UserError
from mtrain.exchange.base import export, is_whole
from mtrain.exchange.comparison import EIGHT_BITS, log_probabilities
from mtrain.exchange.ctranslate2.format import CTranslate2Format, vocabulary
from mtrain.models import TranslationModel
from mtrain.text.tokenizer import TokenizerPair, available_cores

FOLDER = "ctranslate2"  # the export's, inside the checkpoint that it was made from
TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# largest mean difference of a token's log probability from that of the fp32 model
TOLERANCES = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.2, "int8": 0.2}
PROBE_LENGTHS = (1, 2, 3, 5, 8, 13, 34, 89)  # lengths of the compared sequences


class CTranslate2Engine(Engine):
    """CTranslate2's beam search on an export; it has its own early stopping rule."""

    def __init__(
        self,
        folder: Path,
        tokenizers: TokenizerPair,
        decoding: DecodingConfig,
        max_positions: int,
        device: str,
        compute_type: str,
    ) -> None:
        prefix = tokenizers.target.prefix
        super().__init__(decoding, max_positions, torch.device(device), prefix)
        self._source, self._target = tokenizers.source, tokenizers.target
        self._id_of = {piece: number for number, piece in enumerate(vocabulary(self._target))}
        # one thread a batch is faster than threads that share each matrix product
        self._num_workers = available_cores() if device == "cpu" else 1
        self._translator = ctranslate2.Translator(
            str(folder),
            device=device,
            compute_type=compute_type,
            inter_threads=self._num_workers,
            intra_threads=1,
        )

    def search(
        self,
        sources: Sequence[list[int]],
        texts: Sequence[str] = (),
        places: Sequence[Place] = (),
    ) -> Iterator[Found]:
        waiting: deque[tuple[list[int], list[Any]]] = deque()
        for rows in self._batches(sources):
            waiting.append((rows, self._begin([sources[row] for row in rows])))
            if len(waiting) > 2 * self._num_workers:
                yield from self._end(sources, *waiting.popleft())
        while waiting:
            yield from self._end(sources, *waiting.popleft())

    def _begin(self, sources: Sequence[list[int]]) -> list[Any]:
        decoding = self._decoding
        prefix = self._target.pieces(self._target_prefix)
        begun: list[Any] = self._translator.translate_batch(
            [self._source.pieces(ids) for ids in sources],
            target_prefix=[prefix] * len(sources) if prefix else None,
            asynchronous=True,
            beam_size=decoding.beam_size,
            num_hypotheses=decoding.n_best,
            length_penalty=decoding.length_penalty,
            max_input_length=0,  # 0: no limit; the default truncates
            min_decoding_length=0,
            max_decoding_length=1 + len(prefix) + max(map(self._limit, sources)),
            return_scores=not decoding.is_greedy,  # greedy search has no other use for them
            return_end_token=True,
        )
        return begun

    def _end(
        self, sources: Sequence[list[int]], rows: list[int], begun: list[Any]
    ) -> Iterator[Found]:
        for row, result in zip(rows, (waited.result() for waited in begun), strict=True):
            limit = self._limit(sources[row])
            scores = result.scores or [0.0]
            found = [
                self._hypothesis([self._id_of[piece] for piece in pieces], score, limit)
                for pieces, score in zip(result.hypotheses, scores, strict=True)
            ]
            yield row, sorted(found, key=lambda hypothesis: -hypothesis.score)

    def _hypothesis(self, ids: list[int], score: float, limit: int) -> Hypothesis:
        ended = ids[-1:] == [self._target.eos_id]
        start = len(self._target_prefix)
        tokens = ids[start : -1 if ended else None]
        if start:  # CTranslate2's length counts the prefix
            score *= (len(ids) / max(1, len(ids) - start)) ** self._decoding.length_penalty
        return Hypothesis(tokens[:limit], score, cut_off=not ended or len(tokens) > limit)

    def log_probabilities(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
        """Return the log probabilities (T) of the target tokens of each pair."""
        scored = self._translator.score_batch(
            [self._source.pieces(source) for source, _ in pairs],
            [self._target.pieces(target) for _, target in pairs],
            max_input_length=0,
        )
        return [result.log_probs for result in scored]


def open_engine(
    model: TranslationModel,
    config: Config,
    tokenizers: TokenizerPair,
    device: torch.device,
    precision: str,
    checkpoint: Path,
) -> CTranslate2Engine:
    """Return an engine on the export inside a checkpoint; export first if needed, then check it.

    `precision` is fp32, bf16 or fp16. Raises `UserError` if the model cannot be exported, the
    checkpoint's folder cannot be written, or the export's log probabilities exceed the tolerance.
    """
    folder, decoding = checkpoint / FOLDER, config.decoding
    if folder.is_dir() and not is_whole(folder):
        warn(f"{folder} is damaged: writing it again")
        shutil.rmtree(folder)
    if not folder.is_dir():
        export(CTranslate2Format(), folder, model, config, tokenizers)
    is_int8 = decoding.engine == "ctranslate2-int8"
    compute_type = _compute_type(device.type, precision, is_int8)
    advice = f"remove {folder} and translate again, or use decoding.engine: torch"
    try:
        engine = CTranslate2Engine(
            folder, tokenizers, decoding, model.max_positions, device.type, compute_type
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{folder}: CTranslate2 says: {error}", advice) from None
    difference = _difference(engine, model, tokenizers)
    if not difference <= TOLERANCES[compute_type.partition("_")[0]]:
        if is_int8:
            advice += f" or ctranslate2; {EIGHT_BITS}"
        raise UserError(
            f"{folder}: the export does not compute what the model does: "
            f"log probabilities differ by {difference:.2g}",
            advice,
        )
    say(
        f"searching with CTranslate2 {ctranslate2.__version__} in {compute_type}: a token's log "
        f"probability differs by {difference:.1g} on average"
    )
    return engine


def open_export(
    folder: Path,
    tokenizers: TokenizerPair,
    decoding: DecodingConfig,
    max_positions: int,
    device: torch.device,
) -> CTranslate2Engine:
    """Return an engine on an export in eight bits, which `mtrain export` has checked."""
    compute_type = _compute_type(device.type, "fp32", is_int8=True)
    return CTranslate2Engine(folder, tokenizers, decoding, max_positions, device.type, compute_type)


def _compute_type(device: str, precision: str, is_int8: bool) -> str:
    """Return CTranslate2's compute type for `precision`, or fall back to fp32.

    CTranslate2 may lack bf16 on a processor that trains in bf16.
    """
    wanted = f"int8_{TYPES[precision]}" if is_int8 else TYPES[precision]
    fallback = "int8_float32" if is_int8 else "float32"
    return wanted if wanted in ctranslate2.get_supported_compute_types(device) else fallback


def _difference(
    engine: CTranslate2Engine, model: TranslationModel, tokenizers: TokenizerPair
) -> float:
    """Return the mean absolute difference in token log p of export and model, on random ids."""
    random = np.random.default_rng(0)
    sides = tokenizers.source, tokenizers.target
    pairs: list[tuple[list[int], list[int]]] = []
    for length in (min(length, engine.max_ids) for length in PROBE_LENGTHS):
        source, target = (random.choice(side.ordinary_ids, size=length).tolist() for side in sides)
        pairs.append((source, target))
    differences = [
        np.abs(np.array(expected[: len(found)]) - found)
        for expected, found in zip(
            log_probabilities(model, tokenizers, pairs),
            engine.log_probabilities(pairs),
            strict=True,
        )
    ]
    return float(np.concatenate(differences).mean())
