"""Run OpenNMT-py's search with the weights of a run, for `translate.py`.

Both programs support a pre-norm Transformer with sinusoidal positions and a shared vocabulary.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mtrain.config.model import TransformerConfig
from mtrain.errors import UserError
from mtrain.inference.load import LoadedRun
from mtrain.models.transformer import Transformer
from mtrain.text.lines import clean_lines
from mtrain.text.tokenizer import available_cores

INSIDE = Path(__file__).with_name("inside_opennmt.py")
BATCH_SENTENCES = 64
MOST_POSITIONS = 5000  # size of its position table
NAMES = (  # (mtrain, OpenNMT-py)
    (r"^encoder\.(\d+)\.", r"encoder.transformer.\1."),
    (r"^decoder\.(\d+)\.", r"decoder.transformer_layers.\1."),
    (r"^(encoder|decoder)_norm\.", r"\1.layer_norm."),
    (r"(encoder.*)\.residuals\.0\.norm\.", r"\1.layer_norm."),
    (r"(encoder.*)\.residuals\.1\.norm\.", r"\1.feed_forward.layer_norm."),
    (r"(decoder.*)\.residuals\.0\.norm\.", r"\1.layer_norm_1."),
    (r"(decoder.*)\.residuals\.1\.norm\.", r"\1.layer_norm_2."),
    (r"(decoder.*)\.residuals\.2\.norm\.", r"\1.feed_forward.layer_norm."),
    (r"\.self_attention\.", ".self_attn."),
    (r"\.cross_attention\.", ".context_attn."),
    (r"\.out_projection\.", ".final_linear."),
    (r"\.inner\.", ".w_1."),
    (r"\.outer\.", ".w_2."),
    (r"^output\.", "generator."),
    (r"^source_embedding\.", "encoder.embeddings.make_embedding.emb_luts.0."),
    (r"^target_embedding\.", "decoder.embeddings.make_embedding.emb_luts.0."),
)
STACKED = {
    ".in_projection.": (".linear_query.", ".linear_keys.", ".linear_values."),
    ".query_projection.": (".linear_query.",),
    ".memory_projection.": (".linear_keys.", ".linear_values."),
}


def search(
    run: LoadedRun, python: Path, lines: Sequence[bytes], num_few: int
) -> tuple[dict[str, float], list[str]]:
    """Translate non-empty lines with OpenNMT-py in the environment of `python`.

    Returns `seconds`, `alone` (seconds for one sentence, median of a few) and `tokens`, and the
    texts. mtrain encodes and decodes the pieces, outside the measured time. Raises `UserError` for
    a model that OpenNMT-py does not support.
    """
    _check(run)
    config, decoding = run.config.model, run.config.decoding
    tokenizer = run.tokenizers.source
    with tempfile.TemporaryDirectory(prefix="mtrain-bench-") as scratch:
        task = {name: str(Path(scratch) / name) for name in ("weights", "source", "output")}
        torch.save(dict(_weights(cast(Transformer, run.model))), task["weights"])
        ids = tokenizer.encode(clean_lines(lines)[0], available_cores())
        vocabulary = tokenizer.pieces(range(tokenizer.vocab_size))
        rows = (" ".join([*tokenizer.pieces(row), "</s>"]) for row in ids)  # as in training
        Path(task["source"]).write_text("".join(f"{row}\n" for row in rows), "utf-8")
        sizes = {"encoder_layers", "decoder_layers", "num_heads", "d_model", "ffn_dim"}
        (Path(scratch) / "task").write_text(
            json.dumps({
                **task,
                **config.model_dump(include=sizes),
                "vocabulary": vocabulary[4:],
                "beam_size": decoding.beam_size,
                "max_length_ratio": decoding.max_length_ratio,
                "length_penalty": decoding.length_penalty,
                "batch_sentences": BATCH_SENTENCES,
                "threads": torch.get_num_threads(),
                "latency": num_few,
            })
        )  # fmt: skip
        command = [str(python), str(INSIDE), str(Path(scratch) / "task")]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            raise UserError(f"{python} cannot run OpenNMT-py:\n{finished.stderr[-2000:]}")
        figures: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
        outputs = Path(task["output"]).read_text("utf-8").removesuffix("\n").split("\n")
    number = {piece: place for place, piece in enumerate(vocabulary)}
    found = [[number[piece] for piece in row.split()] for row in outputs]
    figures["tokens"] = sum(len(row) + 1 for row in found)
    return figures, run.tokenizers.target.decode(found)


def _check(run: LoadedRun) -> None:
    config, decoding, computes = run.config.model, run.config.decoding, run.precision
    if (
        not isinstance(config, TransformerConfig)
        or (config.norm, config.norm_type, config.positions, config.activation)
        != ("pre", "layer", "sinusoidal", "relu")
        or not run.config.shares_vocabulary
        or run.config.tokenizer.path is not None
    ):
        raise UserError(
            "OpenNMT-py is given Transformers of norm: pre, norm_type: layer, positions: "
            "sinusoidal and activation: relu alone, with one vocabulary that mtrain learnt"
        )
    if decoding.repetition_guard or (
        (decoding.method, decoding.length_norm, decoding.coverage_penalty) != ("beam", "power", 0)
    ):
        raise UserError(
            "OpenNMT-py is measured in beam search, without decoding.coverage_penalty or "
            "decoding.repetition_guard"
        )
    if (computes.device.type, computes.name) != ("cpu", "fp32"):
        raise UserError(
            "OpenNMT-py is measured on a CPU", "--set device=cpu --set decoding.precision=fp32"
        )


def _weights(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """Yield a model's weights under OpenNMT-py's names."""
    for name, weight in model.state_dict().items():
        for ours, theirs in NAMES:
            name = re.sub(ours, theirs, name)
        (stack,) = [part for part in STACKED if part in name] or [""]
        parts = STACKED.get(stack, ("",))
        for part, value in zip(parts, weight.chunk(len(parts)), strict=True):
            yield name.replace(stack, part) if stack else name, value.clone()
    yield "generator.bias", torch.zeros(len(model.output.weight))
    for side, positions in (
        ("encoder", model.source_positions),
        ("decoder", model.target_positions),
    ):
        table = cast(Any, positions)(torch.arange(model.max_positions))
        table = F.pad(table, (0, 0, 0, MOST_POSITIONS - len(table)))
        yield f"{side}.embeddings.make_embedding.pe.pe", table[:, None]
