"""The yardstick: how fast a configuration trains and translates here.

    python scripts/bench.py CONFIG.yaml [--set key=value ...] [--seconds 60] [--json FILE]

Needs prepared data, and changes nothing in them or in the run. Training is measured against what
this machine's matrix products reach on the model's own shapes in the same sitting, so that
figures of different machines can be read side by side.
"""

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import astuple, dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch
from torch import Tensor

from mtrain.config import Config, load_config
from mtrain.config.schema import DecodingConfig
from mtrain.console import say
from mtrain.data.batches import PlannedUpdate, Prefetcher
from mtrain.data.folders import DataFolder, RunFolder, read_held_out
from mtrain.decoding.translator import Translator
from mtrain.errors import UserError
from mtrain.models import Head, Model
from mtrain.text.lines import write_whole
from mtrain.text.tokenizer import available_cores
from mtrain.training.checkpoint import list_checkpoints, load_last_whole, order_by_quality
from mtrain.training.distributed import ProcessGroup
from mtrain.training.forecast import peak_memory
from mtrain.training.parts import Parts, build_parts
from mtrain.training.precision import TYPES, Precision
from mtrain.training.saving import put_weights
from mtrain.training.schedule import learning_rate

Figures = dict[str, str | int | float]

WINDOWS = 10  # of training, of which median and quartiles are told
REPEATS = 3  # of a translation, of which the median is told
WARM_UP_SHARE, TRAINING_SHARE, PRODUCTS_SHARE = 0.05, 0.5, 0.1  # of --seconds


@dataclass(frozen=True)
class Product:
    """Products with weights of shape (inner, outer), and how many of them a token goes through."""

    inner: int
    outer: int
    per_source_token: int
    per_target_token: int

    @property
    def flops(self) -> int:
        """Of one token: forward, the gradient of the input, and that of the weights."""
        return 6 * self.inner * self.outer


@dataclass
class Window:
    """A stretch of training."""

    seconds: float = 0.0
    seconds_waited: float = 0.0  # for data
    processor_seconds: float = 0.0
    updates: int = 0
    source_tokens: int = 0
    target_tokens: int = 0

    def flops(self, product: Product) -> int:
        """Return how much of its work was this product's."""
        uses = product.per_source_token * self.source_tokens
        return product.flops * (uses + product.per_target_token * self.target_tokens)


def matrix_products(model: Model) -> list[Product]:
    """Return the weights that a token meets; attention's own products are about 1 % more."""
    counts: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and not re.search("embedding|positions|output|bridge", name):
            outer, inner = parameter.shape
            reads_source = re.match("encoder|stack", name) or "memory_projection" in name
            reads_target = name.startswith("stack") or not reads_source
            counts[inner, outer][0] += bool(reads_source)
            counts[inner, outer][1] += bool(reads_target)
    vocab_size, width = model.output_matrix.shape
    return [Product(*shape, *uses) for shape, uses in counts.items()] + [
        Product(width, vocab_size, 0, 1)
    ]


def product_speed(product: Product, rows: int, precision: Precision, seconds: float) -> float:
    """Return the FLOP/s of a product and its two gradients on `rows` tokens, at their fastest."""

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=precision.device, dtype=TYPES[precision.name])

    x, weight = random(rows, product.inner), random(product.outer, product.inner)
    y = random(rows, product.outer)
    out = [torch.empty_like(tensor) for tensor in (y, x, weight)]
    fastest, deadline = float("inf"), time.perf_counter() + seconds
    while fastest == float("inf") or time.perf_counter() < deadline:
        started = time.perf_counter()
        torch.mm(x, weight.T, out=out[0])
        torch.mm(y, weight, out=out[1])
        torch.mm(y.T, x, out=out[2])
        if precision.device.type == "cuda":
            torch.cuda.synchronize(precision.device)
        fastest = min(fastest, time.perf_counter() - started)
    return rows * product.flops / fastest


def train_window(
    parts: Parts, feed: Prefetcher[PlannedUpdate], number: int, seconds: float
) -> Window:
    """Train for so long, or for one update, from the update `number` on."""
    window, training = Window(), parts.config.training
    started, waited, busy = time.perf_counter(), feed.seconds_waited, time.process_time()
    while not window.updates or time.perf_counter() - started < seconds:
        batches = next(feed).batches
        rate = learning_rate(number + window.updates, training.max_updates, training)
        result = parts.updater.update(number + window.updates, batches, rate)
        window.updates += 1
        window.source_tokens += sum(int(batch.source_lengths.sum()) for batch in batches)
        window.target_tokens += result.num_tokens
    window.seconds = time.perf_counter() - started
    window.seconds_waited = feed.seconds_waited - waited
    window.processor_seconds = time.process_time() - busy
    return window


def measure_training(parts: Parts, seconds: float) -> Figures:
    """Train as `mtrain train` does, but for validation and saving.

    Tokens are real ones, never padding. Fewer busy processors than threads: this machine had
    something else to do. What is attainable is the speed of the bare products of the same work.
    """
    feed = Prefetcher(parts.updates(0, 0))
    try:
        warm_up = train_window(parts, feed, 0, WARM_UP_SHARE * seconds)
        windows, number = [], warm_up.updates
        for _ in range(WINDOWS):
            windows.append(train_window(parts, feed, number, TRAINING_SHARE * seconds / WINDOWS))
            number += windows[-1].updates
    finally:
        feed.close()
    memory = peak_memory(parts.precision.device)  # before the bare products take theirs
    total = Window(*map(sum, zip(*map(astuple, windows), strict=True)))
    products = matrix_products(parts.model)
    flops = sum(map(total.flops, products))
    rows, share = parts.config.training.batch_tokens, PRODUCTS_SHARE * seconds / len(products)
    bare_seconds = sum(
        total.flops(product) / product_speed(product, rows, parts.precision, share)
        for product in products
    )
    rates = [window.target_tokens / window.seconds for window in windows]
    low, median, high = statistics.quantiles(rates, n=4)
    speed, attainable = median * flops / total.target_tokens, flops / bare_seconds
    return {
        "target_tokens_per_second": median,
        "lower_quartile": low,
        "upper_quartile": high,
        "updates": total.updates,
        "share_waiting_for_data": total.seconds_waited / total.seconds,
        "busy_processors": total.processor_seconds / total.seconds,
        "peak_memory_gb": memory / 1e9,
        "gflop_per_second": speed / 1e9,
        "attainable_gflop_per_second": attainable / 1e9,
        "share_of_attainable": speed / attainable,
    }


def measure_translation(
    parts: Parts, origin: str, decoding: DecodingConfig, lines: Sequence[bytes]
) -> Figures:
    """Translate the lines a few times with the model as it is; end marks count as tokens."""
    device, autocast = parts.precision.device, parts.precision.autocast
    translator = Translator(parts.model, parts.tokenizers, decoding, device, autocast, 1, Head())
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        translator.translate(lines)
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    return {
        "weights": origin,
        "beam_size": decoding.beam_size,
        "sentences": len(lines),
        "sentences_per_second": len(lines) / median,
        "tokens_per_second": translator.num_tokens / REPEATS / median,
    }


def describe_machine(precision: Precision) -> Figures:
    """Return what a figure depends on besides the code, and which code it was."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text("utf-8").split("\n") if cpu_info.is_file() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    is_gpu = precision.device.type == "cuda"
    return {
        "cpu": models[0] if models else platform.processor(),
        "gpu": torch.cuda.get_device_name(precision.device) if is_gpu else "none",
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "precision": precision.name,
        "torch": torch.__version__,
        "commit": current_commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def current_commit() -> str:
    """Return the commit that this script is of, marked -dirty where files differ from it."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(
            describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def bench(config: Config, seconds: float, num_sentences: int) -> dict[str, Figures]:
    """Measure training, then translation with the configured beam and greedily."""
    data = DataFolder(config.data_path)
    data.check_belongs(config)
    parts = build_parts(config, data, ProcessGroup())
    checkpoints = list_checkpoints(RunFolder(config.run_dir).checkpoints)
    best = load_last_whole(order_by_quality(checkpoints, config.training.valid_metric))
    if best:
        put_weights(parts.model, best.weights)
    weights = {name: p.detach().clone() for name, p in parts.model.named_parameters()}
    say(f"training for about {TRAINING_SHARE * seconds:g} seconds")
    training = measure_training(parts, seconds)
    put_weights(parts.model, weights)
    # random weights hardly ever end a sentence: translations run to the length limit
    origin = str(best.path) if best else "random"
    lines = read_held_out(data.path / "text", "valid").sources[:num_sentences]
    say(f"translating {len(lines)} sentences {REPEATS} times with a beam, then greedily")
    searched = {"method": "beam", "n_best": 1}
    beam, greedy = (
        measure_translation(parts, origin, config.decoding.model_copy(update=changes), lines)
        for changes in (searched, {**searched, "beam_size": 1})
    )
    machine = describe_machine(parts.precision)
    return {"machine": machine, "training": training, "beam": beam, "greedy": greedy}


def as_table(report: dict[str, Figures]) -> str:
    """Return a line a figure."""

    def spell(figure: str | int | float) -> str:
        if isinstance(figure, float):
            return f"{figure:,.1f}" if figure >= 10 else f"{figure:.4f}"
        return str(figure)

    return "\n".join(
        f"{part:<10}{name:<30}{spell(figure)}"
        for part, figures in report.items()
        for name, figure in figures.items()
    )


def main() -> None:
    """Read the command line, measure, tell."""
    parser = argparse.ArgumentParser(
        description="Measure how fast a prepared configuration trains and translates here."
    )
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--seconds", type=float, default=60, help="half of them go to training")
    parser.add_argument("--sentences", type=int, default=500, help="of the valid text")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()
    try:
        config = load_config(options.config, options.overrides)
        with write_whole(options.json) if options.json else nullcontext() as file:
            report = bench(config, options.seconds, options.sentences)
            if file:
                asked = {"config": str(options.config), "overrides": options.overrides}
                file.write(json.dumps(asked | report, indent=1).encode() + b"\n")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    print(as_table(report))


if __name__ == "__main__":
    main()
