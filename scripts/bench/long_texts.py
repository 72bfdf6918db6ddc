"""Benchmark an encoder on long texts: full beside block-sparse attention, and BigBird's own code.

    python scripts/bench/long_texts.py OUT [--lengths N ...] [--sizes small base] [--rounds 3]
        [--device cuda --bf16]

Times the forward and backward pass of two layers on one text, and takes the peak memory above that
before it. Without dropout on attention weights torch's fused kernel computes full
attention; with it the matrix of all weights is needed. Each measurement is a process of its own;
full and sparse take turns. What has a result in OUT is skipped, so that the same command resumes.
Writes OUT/long-texts.png and prints the table. `bigbird` is transformers' BigBirdModel with the
same sizes and blocks, `decoder` two layers that read a target and a source of the same length, both
in full.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtrain.console import say
from mtrain.evaluation.heatmaps import check_available
from mtrain.nn.attention import padding_mask
from mtrain.nn.block_sparse import BlockPattern, layer_masks, spans_of_lengths
from mtrain.nn.layers import DecoderLayer, LayerShape, SelfAttentionLayer

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
SIZES = {"small": {"d_model": 256, "num_heads": 4, "ffn_dim": 1024},
         "base": {"d_model": 768, "num_heads": 12, "ffn_dim": 3072}}  # fmt: skip
KINDS = ("full", "sparse", "bigbird", "decoder")
OTHER_KINDS = KINDS[2:]  # at few lengths, small
NUM_LAYERS = 2
VOCAB = 100
PATTERN = BlockPattern(block_size=64, window_blocks=3, global_blocks=2, random_blocks=3)


def encoder(kind: str, size: dict[str, int], length: int, dropout: float) -> Callable[[], Tensor]:
    """Return a function that computes the hidden states (1,L,D) of one text.

    All is made on torch's default device.
    """
    torch.manual_seed(1)
    tokens = torch.randint(VOCAB, (1, length))
    if kind == "bigbird":
        from transformers import BigBirdConfig, BigBirdModel

        config = BigBirdConfig(
            vocab_size=VOCAB, hidden_size=size["d_model"], num_hidden_layers=NUM_LAYERS,
            num_attention_heads=size["num_heads"], intermediate_size=size["ffn_dim"],
            max_position_embeddings=length, block_size=64, num_random_blocks=3,
            attention_type="block_sparse", hidden_dropout_prob=0,
            attention_probs_dropout_prob=dropout,
        )  # fmt: skip
        build: Callable[..., Any] = BigBirdModel
        peer = build(config, add_pooling_layer=False).train()
        return lambda: peer(tokens).last_hidden_state
    embedded, lengths = torch.randn(1, length, size["d_model"]), torch.tensor([length])
    if kind == "decoder":
        decoder = [DecoderLayer(shape_of(size, dropout)) for _ in range(NUM_LAYERS)]
        memory_mask = padding_mask(lengths, length, torch.float32)

        def decode() -> Tensor:
            x = embedded
            for layer in decoder:
                x = layer(x, embedded, memory_mask, None, None, None, None)
            return x

        return decode
    layers = [SelfAttentionLayer(shape_of(size, dropout)) for _ in range(NUM_LAYERS)]
    masks = layer_masks(
        PATTERN if kind == "sparse" else None,
        tokens,
        lambda: padding_mask(lengths, length, torch.float32),
        lambda: spans_of_lengths(lengths),
        NUM_LAYERS,
    )

    def encode() -> Tensor:
        x = embedded
        for layer, mask in zip(layers, masks, strict=True):
            x = layer(x, mask, None, None)
        return x

    return encode


def shape_of(size: dict[str, int], dropout: float) -> LayerShape:
    """Return the shape of a layer, as in a BERT, with dropout on attention weights alone."""
    return LayerShape(
        **size, activation="gelu", dropout=0, attention_dropout=dropout, norm="post",
        norm_type="layer", norm_epsilon=1e-12,
    )  # fmt: skip


def measure(
    kind: str, size: str, length: int, rounds: int, dropout: float, bf16: bool, device: str
) -> dict[str, Any]:
    """Time one kind in this process; return seconds and the memory of a pass in MB."""
    torch.set_default_device(device)
    encode = encoder(kind, SIZES[size], length, dropout)

    def once() -> float:
        wait_for(device)
        started = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            states = encode()
        states.float().square().mean().backward()
        wait_for(device)
        return time.perf_counter() - started

    before = peak_bytes(device)
    once()
    seconds = [once() for _ in range(rounds)]
    return {
        "seconds": statistics.median(seconds),
        "megabytes": (peak_bytes(device) - before) / (1 << 20),
    }


def wait_for(device: str) -> None:
    """Wait until a GPU has done all its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_bytes(device: str) -> int:
    """Return the most memory that this process has taken so far on a device."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_apart(out: Path, kind: str, size: str, length: int, options: argparse.Namespace) -> Any:
    """Return a measurement, made in a process of its own unless OUT has it."""
    precision = "bf16" if options.bf16 else "fp32"
    device = options.device
    path = out / f"{kind}-{size}-{length}-{options.dropout:g}-{precision}-{device}.json"
    if not path.exists():
        measured = [kind, size, str(length), str(options.rounds), str(options.dropout), precision,
                    device]  # fmt: skip
        command = [sys.executable, __file__, str(out), "--measure", *measured]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        path.write_text(done)
        say(f"{kind}, {size}, {length:,} tokens: {json.loads(done)['seconds']:.3f} s")
    return json.loads(path.read_text())


def describe(found: dict[str, dict[int, dict[str, Any]]], size: str) -> str:
    """Return the table of one size."""
    lines = [
        f"{size}",
        f"{'tokens':>8}" + "".join(f"{kind + ', s':>12}{'MB':>8}" for kind in found),
    ]
    for length in found["full"]:
        cells = [found[kind].get(length) for kind in found]
        told = "".join(f"{cell['seconds']:12.3f}{cell['megabytes']:8.0f}" if cell else " " * 20
                       for cell in cells)  # fmt: skip
        ratio = found["full"][length]["seconds"] / found["sparse"][length]["seconds"]
        lines.append(f"{length:8,}{told}   sparse is {ratio:.1f} times as fast as full")
    return "\n".join(lines)


def draw(found: dict[str, dict[str, dict[int, dict[str, Any]]]], path: Path) -> None:
    """Draw seconds and memory by length."""
    check_available("the picture")
    from matplotlib.figure import Figure

    colours = {"full": "#000000", "sparse": "#0072B2", "bigbird": "#E69F00", "decoder": "#009E73"}
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (measure_name, label) in zip(
        figure.subplots(1, 2), (("seconds", "seconds"), ("megabytes", "MB")), strict=True
    ):
        for size, kinds in found.items():
            for kind, points in kinds.items():
                if not points:
                    continue
                axes.plot(list(points), [point[measure_name] for point in points.values()],
                          color=colours[kind], linestyle="-" if size == "small" else "--",
                          marker="o", label=f"{kind}, {size}")  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        lengths = list(found[next(iter(found))]["full"])
        axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
        axes.set_xlabel("tokens")
        axes.set_ylabel(f"{label}, forward and backward, {NUM_LAYERS} layers")
        axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure what has no result yet; print the tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument(
        "--bigbird", type=int, nargs="*", default=[4096], metavar="N", help="its lengths, small"
    )
    parser.add_argument(
        "--decoder", type=int, nargs="*", default=[4096], metavar="N", help="its lengths, small"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.0, help="on attention weights")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--measure", nargs=7, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        kind, size, length, rounds, dropout, precision, device = given.measure
        is_bf16 = precision == "bf16"
        print(json.dumps(
            measure(kind, size, int(length), int(rounds), float(dropout), is_bf16, device)
        ))  # fmt: skip
        return
    given.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, dict[int, dict[str, Any]]]] = {}
    for size in given.sizes:
        found[size] = {kind: {} for kind in KINDS}
        for length in given.lengths:
            for kind in KINDS:
                lengths = getattr(given, kind) if kind in OTHER_KINDS else given.lengths
                if length in lengths and (size == "small" or kind not in OTHER_KINDS):
                    result = measure_apart(given.out, kind, size, length, given)
                    found[size][kind][length] = result
        print(describe(found[size], size), flush=True)
    draw(found, given.out / "long-texts.png")


if __name__ == "__main__":
    main()
