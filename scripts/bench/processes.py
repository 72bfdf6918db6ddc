"""Benchmark training by several processes: messages and bytes an update, memory, speed.

    torchrun --standalone --nproc-per-node 2 scripts/bench/processes.py CONFIG.yaml
        [--set key=value ...] [--updates 20] [--json FILE]

Needs prepared data, and `training.accumulate` that the processes divide; changes neither data nor
run. The same updates are computed with `gradient_reduction: overlapped` and `ordered`, and with
`sharding: full`. Messages are those of torch.distributed in one update, on the first process; bytes
are of what a process hands over in them, at 4 bytes an element, as in fp32. The state is what a
process keeps from update to update: weights, gradients, optimiser.
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from yardstick import Figures, as_table, describe_machine, make_parser

from mtrain.config import load_config
from mtrain.data.folders import DataFolder
from mtrain.distributed.group import ProcessGroup
from mtrain.distributed.sharding import own
from mtrain.text.lines import write_whole
from mtrain.training.build import Setup, build_setup
from mtrain.training.schedule import learning_rate

WAYS = {
    "overlapped": ("training.sharding=none", "training.gradient_reduction=overlapped"),
    "ordered": ("training.sharding=none", "training.gradient_reduction=ordered"),
    "sharded": ("training.sharding=full", "training.gradient_reduction=overlapped"),
}


def learn(setup: Setup, group: ProcessGroup, num_updates: int) -> dict[str, Any]:
    """Compute updates; return what they cost."""
    training, feed = setup.config.training, setup.updates(0, 0, 0)
    speeds, messages, sent = [], Counter[str](), 0
    for number in range(num_updates):
        batches = next(feed).batches
        tokens = sum(batch.num_target_tokens for batch in batches)
        num_tokens = int(sum(count for (count,) in group.share(tokens)))
        rate = learning_rate(number, training.max_updates, training)
        started = time.perf_counter()
        if number == num_updates - 1:
            with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
                setup.updater.update(number, batches, num_tokens, rate)
            messages, sent = _messages(seen)
        else:
            setup.updater.update(number, batches, num_tokens, rate)
            speeds.append(num_tokens / (time.perf_counter() - started))
    parameters = sum(weight.numel() for weight in setup.state.parameters)
    kept = [*setup.state.parameters, *setup.state.tensors().values()]
    kept += [weight.grad for weight in setup.state.parameters if weight.grad is not None]
    state = sum(_size(tensor) for tensor in kept)
    return {
        "target_tokens_per_second": statistics.median(speeds[1:]),
        **{f"messages: {name}": count for name, count in sorted(messages.items())},
        "megabytes": sent / 1e6,
        "bytes_per_parameter": sent / parameters,
        "state_bytes_per_parameter": state / parameters,
        "parameters": parameters,
    }


def _messages(seen: profile) -> tuple[Counter[str], int]:
    """Return how many messages of each kind there were, and their bytes."""
    messages, sent = Counter[str](), 0
    for event in seen.events() or ():
        if event.name.startswith(("gloo:", "nccl:")):
            messages[event.name.partition(":")[2]] += 1
            for shape in event.input_shapes:
                sizes = shape if shape and isinstance(shape[0], list) else [shape]
                sent += sum(4 * int(torch.Size(size).numel()) for size in sizes if size)
    return messages, sent


def _size(tensor: Tensor) -> int:
    return own(tensor.detach()).nbytes


def bench(options: argparse.Namespace) -> None:
    """Measure each way in turn; the first process tells."""
    report: dict[str, Figures] = {}
    for name, settings in WAYS.items():
        config = load_config(options.config, [*options.overrides, *settings])
        with ProcessGroup() as group:
            setup = build_setup(config, DataFolder(config.data_path), group)
            report[name] = learn(setup, group, options.updates)
            is_first = group.is_first
    if is_first:
        report = {"machine": {**describe_machine(), "processes": group.size}, **report}
        print(as_table(report))
        if options.json:
            with write_whole(options.json) as file:
                asked = {"command": " ".join(sys.argv)}
                file.write(json.dumps(asked | report, indent=1).encode() + b"\n")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = make_parser("Measure what training by several processes costs.", "CONFIG.yaml")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    bench(parser.parse_args())


if __name__ == "__main__":
    main()
