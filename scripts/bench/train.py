"""The yardstick of training: real target tokens a second, what they take, what would be possible.

    python scripts/bench/train.py CONFIG.yaml [--set key=value ...] [--seconds 60] [--json FILE]

Needs prepared data, and changes nothing in them or in the run. Training is measured against what
this machine's matrix products reach on the model's own shapes in the same sitting, so that
figures of different machines can be read side by side.
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
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from yardstick import Figures, Report, make_parser, run_yardstick

from mtrain.config import load_config
from mtrain.console import say
from mtrain.data.folders import DataFolder
from mtrain.data.prefetch import Prefetcher
from mtrain.data.updates import PlannedUpdate
from mtrain.distributed.group import ProcessGroup
from mtrain.models import Model
from mtrain.runtime.memory import peak_memory
from mtrain.runtime.precision import Precision
from mtrain.training.build import Setup, build_setup
from mtrain.training.objectives.translation import TranslationObjective
from mtrain.training.schedule import learning_rate
from mtrain.training.steps.cpu_threads import CpuThreadsStep
from mtrain.training.steps.cuda_graph import CapturedFunction

PEAKS = {"H100": 989e12, "H200": 989e12}  # FLOP/s of dense bf16 products, by the vendor
WINDOWS = 10  # of training, of which median and quartiles are told
WARM_UP_SHARE, TRAINING_SHARE, PARTS_SHARE, PRODUCTS_SHARE = 0.1, 0.6, 0.15, 0.15  # of --seconds


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
    vocab_size, width = model.output.weight.shape
    return [Product(*shape, *uses) for shape, uses in counts.items()] + [
        Product(width, vocab_size, 0, 1)
    ]


def product_speed(product: Product, rows: int, precision: Precision, seconds: float) -> float:
    """Return the FLOP/s of a product and its two gradients on `rows` tokens, at their fastest."""

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
    """Return the share of what a known GPU is said to reach in half precision."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next(({"mfu": speed / peak} for gpu, peak in PEAKS.items() if gpu in name), {})


def train_window(
    setup: Setup, feed: Prefetcher[PlannedUpdate], number: int, seconds: float
) -> Window:
    """Train for so long, or for one update, from the update `number` on."""
    window, training = Window(), setup.config.training
    started, waited, busy = time.perf_counter(), feed.seconds_waited, time.process_time()
    while not window.updates or time.perf_counter() - started < seconds:
        batches = next(feed).batches
        rate = learning_rate(number + window.updates, training.max_updates, training)
        num_tokens = sum(batch.num_target_tokens for batch in batches)
        result = setup.updater.update(number + window.updates, batches, num_tokens, rate)
        window.updates += 1
        window.source_tokens += sum(int(batch.source_lengths.sum()) for batch in batches)
        window.target_tokens += result.num_tokens
    window.seconds = time.perf_counter() - started
    window.seconds_waited = feed.seconds_waited - waited
    window.processor_seconds = time.process_time() - busy
    return window


class Stopwatch:
    """Adds up the time that functions take, by name; a GPU is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device
        self._lock = Lock()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, its time added up under `name`."""

        def call(*arguments: Any, **options: Any) -> Any:
            started = self._now()
            result = function(*arguments, **options)
            with self._lock:  # a CPU's threads learn side by side
                self.seconds[name] += self._now() - started
            return result

        return call

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


@contextmanager
def watch(setup: Setup) -> Iterator[Stopwatch]:
    """Time the parts of an update inside the block."""
    watch = Stopwatch(setup.precision.device)
    optimizer, clip = setup.state.optimizer, "clip_grad_norm_"
    with ExitStack() as patches:
        for owner, name, part in (
            (CpuThreadsStep, "accumulate", "both"),
            (TranslationObjective, "__call__", "forward"),
            (torch.autograd, "backward", "backward"),
            (torch.autograd, "grad", "backward"),
            (torch.nn.utils, clip, "optimiser"),
            (optimizer, "step", "optimiser"),
            (optimizer, "zero_grad", "optimiser"),
            (CapturedFunction, "__call__", "replayed"),
        ):
            timed = watch.timed(part, getattr(owner, name))
            patches.enter_context(patch.object(owner, name, timed))
        yield watch


def measure_shares(
    setup: Setup, feed: Prefetcher[PlannedUpdate], number: int, seconds: float
) -> Figures:
    """Return the shares of training's time; the output layer's gradient counts as forward.

    A CUDA graph replays forward and backward together. The threads of a CPU do them
    side by side, so that the time of both is shared out as theirs is.
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
    """Train as `mtrain train` does, but for validation and saving.

    Tokens are real ones, never padding. Fewer busy processors than threads: this machine had
    something else to do. What is attainable is the speed of the bare products of the same work.
    """
    feed = Prefetcher(setup.updates(0, 0))
    try:
        warm_up = train_window(setup, feed, 0, WARM_UP_SHARE * seconds)
        windows, number = [], warm_up.updates
        for _ in range(WINDOWS):
            windows.append(train_window(setup, feed, number, TRAINING_SHARE * seconds / WINDOWS))
            number += windows[-1].updates
        memory = peak_memory(setup.precision.device)  # before the bare products take theirs
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
    """Measure the training of a configuration from its first update on."""
    config = load_config(options.config, options.overrides)
    data = DataFolder(config.data_path)
    data.check_belongs(config)
    say(f"training and multiplying for about {options.seconds:g} seconds")
    return measure_training(build_setup(config, data, ProcessGroup()), options.seconds)


def main() -> None:
    """Measure what the command line asks for."""
    parser = make_parser("Measure how fast a prepared configuration trains here.", "CONFIG.yaml")
    parser.add_argument("--seconds", type=float, default=60, help="that all of it takes")
    run_yardstick(parser, bench)


if __name__ == "__main__":
    main()
