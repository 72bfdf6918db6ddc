"""Run a peer trainer in its own environment, trace its updates, and stop it.

    bin/python inside.py --trace FILE --stop-tokens N [--before FILE] MODULE ARGUMENTS...

Writes one line of JSON per update: seconds since the start, real target tokens, target positions
including padding. It counts the labels that the trainer passes to its loss, in a hook that every
torch optimiser calls. Needs only torch and the trainer; mtrain is not installed there.
"""

import argparse
import contextlib
import json
import os
import runpy
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

WARM_UP = 2  # updates excluded from --stop-tokens


class Counter:
    """Counts of real labels and of all labels since the last update."""

    def __init__(self) -> None:
        self.real = self.all = 0

    def add(self, labels: Any, padding: int) -> None:
        """Count a tensor of labels."""
        self.real += int((labels != padding).sum())
        self.all += labels.numel()


# Where to count each trainer's labels: module, class, method, and a function from the method's
# arguments to labels and padding id.
LABELS: dict[str, tuple[str, str, str, Callable[..., tuple[Any, int]]]] = {
    "joeynmt": ("joeynmt.training", "TrainManager", "_train_step",
                lambda self, batch: (batch.trg, self.model.pad_index)),
    "onmt": ("onmt.utils.loss", "LossCompute", "forward",
             lambda self, batch, *_, **__: (batch["tgt"][:, 1:, 0], self.criterion.ignore_index)),
    "eole": ("eole.utils.loss", "LossCompute", "forward",
             lambda self, batch, *_, **__: (batch["tgt"][:, 1:], self.padding_idx)),
    "sockeye": ("sockeye.training", "EarlyStoppingTrainer", "_forward_backward",
                lambda self, batch, *_, **__: (batch.labels["target_label"], 0)),
    "fairseq_cli": ("fairseq.criterions.label_smoothed_cross_entropy",
                    "LabelSmoothedCrossEntropyCriterion", "forward",
                    lambda self, model, sample, **_: (sample["target"], self.padding_idx)),
    "inside_transformers": ("transformers", "Trainer", "compute_loss",
                            lambda self, model, inputs, *_, **__: (inputs["labels"], -100)),
}  # fmt: skip


def watch_labels(trainer: str, counter: Counter) -> None:
    """Patch a trainer so that the labels of its loss are counted."""
    module, owner_name, name, find = LABELS[trainer]
    owner = getattr(import_module(module), owner_name)
    method = getattr(owner, name)

    def counted(*arguments: Any, **options: Any) -> Any:
        counter.add(*find(*arguments, **options))
        return method(*arguments, **options)

    setattr(owner, name, counted)


def mend() -> None:
    """Restore what old trainers need: np.float and friends, and pickles in torch.load."""
    for name, kind in (("float", float), ("int", int), ("bool", bool), ("object", object)):
        if name not in vars(np):
            setattr(np, name, kind)
    load = torch.load
    torch.load = lambda *arguments, **options: load(
        *arguments, **{**options, "weights_only": False}
    )


def run(module: str, arguments: list[str]) -> None:
    """Run a module like python -m."""
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    """Trace the trainer that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--stop-tokens", type=int, required=True)
    parser.add_argument("--before", type=Path, help="a command to run first, one word per line")
    parser.add_argument("module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    mend()
    if given.before:
        module, *arguments = given.before.read_text("utf-8").split("\n")
        with contextlib.suppress(SystemExit):
            run(module, arguments)
    counter, counts = Counter(), [0, 0]  # updates, tokens after the warm-up
    watch_labels(given.module.split(".")[0], counter)
    started = time.perf_counter()
    trace = given.trace.open("w", encoding="utf-8")

    def after_update(optimizer: Any, *_: Any) -> None:
        counts[0] += 1
        if counts[0] > WARM_UP:
            counts[1] += counter.real
        line = {"seconds": time.perf_counter() - started, "tokens": counter.real}
        trace.write(json.dumps({**line, "positions": counter.all}) + "\n")
        trace.flush()
        counter.real = counter.all = 0
        if counts[1] >= given.stop_tokens:
            os._exit(0)  # no validation, no checkpoint

    register_optimizer_step_post_hook(after_update)
    run(given.module, given.arguments)


if __name__ == "__main__":
    main()
