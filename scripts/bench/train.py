"""Benchmark training: real target tokens a second, where the time goes, what is attainable.

    python scripts/bench/train.py CONFIG.yaml [--set key=value ...] [--seconds 60] [--json FILE]

Needs prepared data; changes neither data nor run. Training is compared with bare matrix products
of the model's shapes in the same process, so that the share compares across machines.
"""

import argparse
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from threading import Lock
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor
from yardstick import Figures, Report, make_parser, run_yardstick

from mtrain.config import load_config
from mtrain.console import say
from mtrain.data.batch import PairBatch
from mtrain.data.folders import DataFolder
from mtrain.data.prefetch import Prefetcher
from mtrain.data.updates import PlannedUpdate
from mtrain.distributed.group import ProcessGroup
from mtrain.models import Model
from mtrain.runtime.memory import peak_memory
from mtrain.runtime.precision import Precision
from mtrain.training.build import Setup, build_setup
from mtrain.training.objectives.prediction import PredictionObjective
from mtrain.training.schedule import learning_rate
from mtrain.training.steps.cpu_threads import CpuThreadsStep
from mtrain.training.steps.cuda_graph import CapturedFunction

PEAKS = {"H100": 989e12, "H200": 989e12}  # FLOP/s of dense bf16 products, vendor's figures
WINDOWS = 10  # training windows, for the median and the quartiles
WARM_UP_SHARE, TRAINING_SHARE, PARTS_SHARE, PRODUCTS_SHARE = (
    0.1,
    0.6,
    0.15,
    0.15,
)  # of --seconds


@dataclass(frozen=True)
class Product:
    """Matrix products with weights of shape (inner, outer), and how many each token needs."""

    inner: int
    outer: int
    per_source_token: int
    per_target_token: int

    @property
    def flops(self) -> int:
        """FLOPs per token: forward, gradient of the input, gradient of the weights."""
        return 6 * self.inner * self.outer


@dataclass
class Window:
    """What was done in one training window."""

    seconds: float = 0.0
    seconds_waited: float = 0.0  # waiting for data
    processor_seconds: float = 0.0
    updates: int = 0
    source_tokens: int = 0
    target_tokens: int = 0

    def flops(self, product: Product) -> int:
        """Return the FLOPs that this product contributed."""
        uses = product.per_source_token * self.source_tokens
        return product.flops * (uses + product.per_target_token * self.target_tokens)


def matrix_products(model: Model) -> list[Product]:
    """Return the matrix products of a model; those inside attention (about 1 %) are left out."""
    counts: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2 and not re.search("embedding|positions|output|bridge", name):
            outer, inner = parameter.shape
            reads_source = re.match("encoder|stack", name) or "memory_projection" in name
            reads_target = name.startswith("stack") or not reads_source
            counts[inner, outer][0] += bool(reads_source)
            counts[inner, outer][1] += bool(reads_target)
    vocab_size, width = model.output.weight.shape
    return [Product(*shape, *uses) for shape, uses in counts.items()] + [
        Product(width, vocab_size, 0, 1)
    ]


def product_speed(product: Product, rows: int, precision: Precision, seconds: float) -> float:
    """Return the best FLOP/s of a product and its two gradients on `rows` tokens."""

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=precision.device, dtype=precision.type)

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


def model_flops_utilisation(speed: float) -> Figures:
    """Return the share of a known GPU's half-precision peak."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next(({"mfu": speed / peak} for gpu, peak in PEAKS.items() if gpu in name), {})


def train_window(
    setup: Setup, feed: Prefetcher[PlannedUpdate], number: int, seconds: float
) -> Window:
    """Train for `seconds`, at least one update, starting at update `number`."""
    window, training = Window(), setup.config.training
    started, waited, busy = time.perf_counter(), feed.seconds_waited, time.process_time()
    while not window.updates or time.perf_counter() - started < seconds:
        batches = next(feed).batches
        rate = learning_rate(number + window.updates, training.max_updates, training)
        num_tokens = sum(batch.num_target_tokens for batch in batches)
        result = setup.updater.update(number + window.updates, batches, num_tokens, rate)
        window.updates += 1
        window.source_tokens += sum(int(cast(PairBatch, batch).source_lengths.sum())
                                    for batch in batches)  # fmt: skip
        window.target_tokens += result.num_tokens
    window.seconds = time.perf_counter() - started
    window.seconds_waited = feed.seconds_waited - waited
    window.processor_seconds = time.process_time() - busy
    return window


class Stopwatch:
    """Add up the time of functions by name, synchronising with a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device
        self._lock = Lock()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its time is added to `name`."""

        def call(*arguments: Any, **options: Any) -> Any:
            started = self._now()
            result = function(*arguments, **options)
            with self._lock:  # CPU threads train in parallel
                self.seconds[name] += self._now() - started
            return result

        return call

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


@contextmanager
def watch(setup: Setup) -> Iterator[Stopwatch]:
    """Time the parts of every update inside the block."""
    watch = Stopwatch(setup.precision.device)
    clip = "clip_grad_norm_"
    with ExitStack() as patches:
        for owner, name, part in (
            (CpuThreadsStep, "accumulate", "both"),
            (PredictionObjective, "__call__", "forward"),
            (torch.autograd, "backward", "backward"),
            (torch.autograd, "grad", "backward"),
            (torch.nn.utils, clip, "optimiser"),
            *(
                (optimizer, name, "optimiser")
                for optimizer in setup.state.optimizers
                for name in ("step_where", "zero_grad")
            ),
            (CapturedFunction, "__call__", "replayed"),
        ):
            timed = watch.timed(part, getattr(owner, name))
            patches.enter_context(patch.object(owner, name, timed))
        yield watch


def measure_shares(
    setup: Setup, feed: Prefetcher[PlannedUpdate], number: int, seconds: float
) -> Figures:
    """Return the shares of training time; the gradient of the output layer counts as forward.

    A CUDA graph replays forward and backward at once. CPU threads run both in parallel: their
    total is split in proportion to the threads' own times.
    """
    with watch(setup) as stopwatch:
        window = train_window(setup, feed, number, seconds)
    spent = stopwatch.seconds
    spent["data"] = window.seconds_waited
    if both := spent["both"]:
        forward = spent["forward"] / (spent["forward"] + spent["backward"])
        spent["forward"], spent["backward"] = forward * both, (1 - forward) * both
    told = {f"share_{name}": spent[name] / window.seconds
            for name in ("data", "forward", "backward", "replayed", "optimiser")}  # fmt: skip
    return {**told, "share_rest": 1 - sum(told.values())}


def measure_training(setup: Setup, seconds: float) -> Report:
    """Train as `mtrain train` does, without validation and saving.

    Tokens exclude padding. Fewer busy processors than threads: other work ran on the machine.
    The attainable speed is that of bare matrix products of the same shapes and amounts.
    """
    feed = Prefetcher(setup.updates(0, 0, 0))
    try:
        warm_up = train_window(setup, feed, 0, WARM_UP_SHARE * seconds)
        windows, number = [], warm_up.updates
        for _ in range(WINDOWS):
            windows.append(train_window(setup, feed, number, TRAINING_SHARE * seconds / WINDOWS))
            number += windows[-1].updates
        memory = peak_memory(setup.precision.device)  # before the bare products allocate
        shares = measure_shares(setup, feed, number, PARTS_SHARE * seconds)
    finally:
        feed.close()
    total = Window(*map(sum, zip(*map(astuple, windows), strict=True)))
    products = matrix_products(setup.state.model)
    flops = sum(map(total.flops, products))
    rows, share = setup.config.training.batch_tokens, PRODUCTS_SHARE * seconds / len(products)
    bare_seconds = sum(
        total.flops(product) / product_speed(product, rows, setup.precision, share)
        for product in products
    )
    rates = [window.target_tokens / window.seconds for window in windows]
    low, median, high = statistics.quantiles(rates, n=4)
    speed, attainable = median * flops / total.target_tokens, flops / bare_seconds
    figures: Figures = {
        "target_tokens_per_second": median,
        "lower_quartile": low,
        "upper_quartile": high,
        "updates": total.updates,
        "parameters": sum(parameter.numel() for parameter in setup.state.model.parameters()),
        "precision": setup.precision.name,
        "busy_processors": total.processor_seconds / total.seconds,
        "peak_memory_gb": memory / 1e9,
        "gflop_per_second": speed / 1e9,
        "attainable_gflop_per_second": attainable / 1e9,
        "share_of_attainable": speed / attainable,
        **model_flops_utilisation(speed),
    }
    return {"training": figures, "time": shares}


def bench(options: argparse.Namespace) -> Report:
    """Measure training of a configuration, starting at its first update."""
    config = load_config(options.config, options.overrides)
    data = DataFolder(config.data_path)
    data.check_belongs(config)
    say(f"training and multiplying for about {options.seconds:g} seconds")
    return measure_training(build_setup(config, data, ProcessGroup()), options.seconds)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = make_parser("Measure training speed of a prepared configuration.", "CONFIG.yaml")
    parser.add_argument("--seconds", type=float, default=60, help="total run time (60)")
    run_yardstick(parser, bench)


if __name__ == "__main__":
    main()
