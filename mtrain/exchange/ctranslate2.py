"""CTranslate2: a Transformer written in its format, and its search as an engine of ours.

Needs the extra `ctranslate2`. An export is never trusted unseen: before it translates, its log
probabilities are compared with those of the model that it was made from.

Shapes: T target tokens, the end mark included.
"""

import json
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import ctranslate2
import numpy as np
import torch
from ctranslate2.specs import common_spec, transformer_spec
from torch import Tensor, nn

from mtrain.config import Config
from mtrain.config.decoding import DecodingConfig
from mtrain.config.model import TransformerConfig
from mtrain.console import say, warn
from mtrain.data.makers.padded import pad_pairs
from mtrain.decoding.engine import Engine, Found
from mtrain.decoding.hypothesis import Hypothesis
from mtrain.errors import UserError
from mtrain.models.base import TranslationModel
from mtrain.models.transformer import DecoderLayer, Transformer
from mtrain.text.lines import file_digests
from mtrain.text.tokenizer import Tokenizer, TokenizerPair, available_cores

FOLDER = "ctranslate2"  # of the export, inside the checkpoint that it was made from
DIGESTS = "digests.json"
TYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
ACTIVATIONS = {
    "relu": common_spec.Activation.RELU,
    "gelu": common_spec.Activation.GELU,
    "swiglu": common_spec.Activation.SWISH,
}
# largest mean difference, from the model in fp32, of the log probability of a token
TOLERANCES = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.2, "int8": 0.2}
PROBE_LENGTHS = (1, 2, 3, 5, 8, 13, 34, 89)  # of the sequences that are compared


class CTranslate2Engine(Engine):
    """CTranslate2's beam search on an export; it has its own rule of when to stop."""

    def __init__(
        self,
        folder: Path,
        tokenizers: TokenizerPair,
        decoding: DecodingConfig,
        max_positions: int,
        device: str,
        compute_type: str,
    ) -> None:
        super().__init__(decoding, max_positions, torch.device(device))
        self._source, self._target = tokenizers.source, tokenizers.target
        self._id_of = {piece: number for number, piece in enumerate(_vocabulary(self._target))}
        # sentences are independent: a thread each is faster than threads that share a product
        self._num_workers = available_cores() if device == "cpu" else 1
        self._translator = ctranslate2.Translator(
            str(folder),
            device=device,
            compute_type=compute_type,
            inter_threads=self._num_workers,
            intra_threads=1,
        )

    def search(self, sources: Sequence[list[int]]) -> Iterator[Found]:
        waiting: deque[tuple[list[int], list[Any]]] = deque()
        for rows in self._batches(sources):
            waiting.append((rows, self._begin([sources[row] for row in rows])))
            if len(waiting) > 2 * self._num_workers:
                yield from self._end(sources, *waiting.popleft())
        while waiting:
            yield from self._end(sources, *waiting.popleft())

    def _begin(self, sources: Sequence[list[int]]) -> list[Any]:
        decoding = self._decoding
        begun: list[Any] = self._translator.translate_batch(
            [self._source.pieces(ids) for ids in sources],
            asynchronous=True,
            beam_size=decoding.beam_size,
            num_hypotheses=decoding.n_best,
            length_penalty=decoding.length_penalty,
            max_input_length=0,  # by default it cuts
            min_decoding_length=0,
            max_decoding_length=1 + max(map(self._limit, sources)),
            return_scores=not decoding.is_greedy,  # greedily, it computes them for nothing else
            return_end_token=True,
        )
        return begun

    def _end(
        self, sources: Sequence[list[int]], rows: list[int], begun: list[Any]
    ) -> Iterator[Found]:
        for row, result in zip(rows, (waited.result() for waited in begun), strict=True):
            limit = self._limit(sources[row])
            scores = result.scores or [0.0]
            yield (
                row,
                [
                    self._hypothesis([self._id_of[piece] for piece in pieces], score, limit)
                    for pieces, score in zip(result.hypotheses, scores, strict=True)
                ],
            )

    def _hypothesis(self, ids: list[int], score: float, limit: int) -> Hypothesis:
        ended = ids[-1:] == [self._target.end_id]
        tokens = ids[:-1] if ended else ids
        return Hypothesis(tokens[:limit], score, cut_off=not ended or len(tokens) > limit)

    def log_probabilities(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
        """Return that of each target token of each pair, (T) numbers."""
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
    """Return an engine on the export inside a checkpoint, made where there is none, and checked.

    `precision` is fp32, bf16 or fp16. Raises `UserError` where the model cannot be exported, the
    checkpoint's folder cannot be written, or the export does not compute what the model does.
    """
    limit = model.export_limits.get("ctranslate2")
    if limit:
        raise UserError(
            f"CTranslate2 cannot run a model with {limit}", "use decoding.engine: torch"
        )
    assert isinstance(model, Transformer)
    assert isinstance(config.model, TransformerConfig)
    folder, decoding = checkpoint / FOLDER, config.decoding
    if folder.is_dir() and not _is_whole(folder):
        warn(f"{folder} is damaged: written anew")
        shutil.rmtree(folder)
    if not folder.is_dir():
        _write(folder, model, config.model, tokenizers)
    is_int8 = decoding.engine == "ctranslate2-int8"
    compute_type = _compute_type(device.type, precision, is_int8)
    advice = f"remove {folder} and translate again, or use decoding.engine: torch"
    try:
        engine = CTranslate2Engine(
            folder, tokenizers, decoding, model.max_positions, device.type, compute_type
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{folder}: CTranslate2 says: {error}", advice) from None
    difference = _difference(engine, model, tokenizers, device)
    if not difference <= TOLERANCES[compute_type.partition("_")[0]]:
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


def _compute_type(device: str, precision: str, is_int8: bool) -> str:
    """Return CTranslate2's number format nearest to the one that the model was trained in.

    A processor that trains in bf16 may have no fast bf16 here; then search computes in fp32.
    """
    wanted = f"int8_{TYPES[precision]}" if is_int8 else TYPES[precision]
    fallback = "int8_float32" if is_int8 else "float32"
    return wanted if wanted in ctranslate2.get_supported_compute_types(device) else fallback


def _difference(
    engine: CTranslate2Engine,
    model: TranslationModel,
    tokenizers: TokenizerPair,
    device: torch.device,
) -> float:
    """Return the mean difference of a log probability between export and model, on random ids."""
    random = np.random.default_rng(0)
    sides = tokenizers.source, tokenizers.target
    pairs: list[tuple[list[int], list[int]]] = []
    for length in (min(length, engine.max_ids) for length in PROBE_LENGTHS):
        source, target = (random.choice(side.ordinary_ids, size=length).tolist() for side in sides)
        pairs.append((source, target))
    batch = pad_pairs(pairs, tokenizers).to(device)
    with torch.inference_mode():
        expected = model.logits(batch).float().log_softmax(dim=-1)
        expected = expected.gather(2, batch.target_out[:, :, None])[:, :, 0].cpu()
    differences = [
        (expected[row, : len(found)] - torch.tensor(found)).abs()
        for row, found in enumerate(engine.log_probabilities(pairs))
    ]
    return float(torch.cat(differences).mean())


def _write(
    folder: Path, model: Transformer, config: TransformerConfig, tokenizers: TokenizerPair
) -> None:
    """Write an export under another name, digests last, and rename it."""
    spec = _spec(model, config, tokenizers)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as writing:
            whole = Path(writing) / FOLDER
            whole.mkdir()
            spec.save(str(whole))
            (whole / DIGESTS).write_text(json.dumps(file_digests(whole)), "utf-8")
            whole.rename(folder)
    except PermissionError:
        raise UserError(
            f"{folder}: no permission to write the model in CTranslate2's format here",
            "translate once with this engine as someone who has, or copy the run",
        ) from None
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise


def _is_whole(folder: Path) -> bool:
    try:
        written: dict[str, str] = json.loads((folder / DIGESTS).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    present = file_digests(folder)
    del present[DIGESTS]
    return present == written


def _spec(
    model: Transformer, config: TransformerConfig, tokenizers: TokenizerPair
) -> transformer_spec.TransformerSpec:
    shape = {
        "num_heads": config.num_heads,
        "pre_norm": config.norm == "pre",
        "activation": ACTIVATIONS[config.activation],
        "ffn_glu": config.activation == "swiglu",
        "rms_norm": config.norm_type == "rms",
        "rotary_dim": 0 if config.positions == "rotary" else None,
        "rotary_interleave": False,
    }
    spec = transformer_spec.TransformerSpec(
        transformer_spec.TransformerEncoderSpec(config.encoder_layers, **shape),
        transformer_spec.TransformerDecoderSpec(config.decoder_layers, **shape),
    )
    sides: tuple[tuple[Any, Any, nn.Module, nn.Module, nn.Module], ...] = (
        (spec.encoder.embeddings[0], spec.encoder, model.source_embedding, model.source_positions,
         model.encoder_norm),
        (spec.decoder.embeddings, spec.decoder, model.target_embedding, model.target_positions,
         model.decoder_norm),
    )  # fmt: skip
    for embeddings, stack, embedding, positions, norm in sides:
        embeddings.weight = _array(embedding.weight)
        if config.positions != "rotary":
            table = positions(torch.arange(model.max_positions))
            stack.position_encodings.encodings = _array(table)
        if config.norm == "pre":
            _put_norm(stack.layer_norm, norm)
    spec.decoder.projection.weight = _array(model.output.weight)
    for layers, modules in (
        (spec.encoder.layer, model.encoder),
        (spec.decoder.layer, model.decoder),
    ):
        for layer, module in zip(layers, modules, strict=True):
            _put_layer(layer, module)
    source, target = tokenizers.source, tokenizers.target
    spec.register_source_vocabulary(_vocabulary(source))
    spec.register_target_vocabulary(_vocabulary(target))
    (spec.config.unk_token,) = target.pieces([target.unknown_id])
    (spec.config.eos_token,) = target.pieces([target.end_id])
    (spec.config.bos_token,) = (spec.config.decoder_start_token,) = target.pieces([target.start_id])
    spec.config.add_source_eos = True
    norm = cast(Any, model.encoder[0]).residuals[0].norm
    spec.config.layer_norm_epsilon = norm.eps or torch.finfo(torch.float32).eps  # RMSNorm's own
    spec.validate()
    return spec


def _put_layer(spec: Any, ours: Any) -> None:
    """Copy a layer of the encoder, or of the decoder, which attends to the memory as well."""
    norms = [residual.norm for residual in ours.residuals]
    own = ours.self_attention
    _put_attention(spec.self_attention, norms[0], own.in_projection, own.out_projection)
    if isinstance(ours, DecoderLayer):
        cross = ours.cross_attention
        projections = cross.query_projection, cross.memory_projection, cross.out_projection
        _put_attention(spec.attention, norms[1], *projections)
    _put_norm(spec.ffn.layer_norm, norms[-1])
    inner, outer = ours.feed_forward.inner, ours.feed_forward.outer
    parts = [spec.ffn.linear_0]
    if ours.feed_forward.is_gated:
        parts.append(spec.ffn.linear_0_noact)
    count = len(parts)
    for part, weight, bias in zip(
        parts, inner.weight.chunk(count), inner.bias.chunk(count), strict=True
    ):
        _put_linear(part, weight, bias)
    _put_linear(spec.ffn.linear_1, outer.weight, outer.bias)


def _put_attention(spec: Any, norm: nn.Module, *projections: nn.Linear) -> None:
    _put_norm(spec.layer_norm, norm)
    for part, linear in zip(spec.linear, projections, strict=True):
        _put_linear(part, linear.weight, linear.bias)


def _put_linear(spec: Any, weight: Tensor, bias: Tensor) -> None:
    spec.weight, spec.bias = _array(weight), _array(bias)


def _put_norm(spec: Any, norm: Any) -> None:
    spec.gamma = _array(norm.weight)
    if isinstance(norm, nn.LayerNorm):
        spec.beta = _array(norm.bias)


def _array(tensor: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    array: np.ndarray[Any, np.dtype[np.float32]] = tensor.detach().float().cpu().numpy()
    return np.ascontiguousarray(array)


def _vocabulary(tokenizer: Tokenizer) -> list[str]:
    return tokenizer.pieces(range(tokenizer.vocab_size))
