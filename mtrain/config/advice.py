"""Settings for a corpus, a time and a machine, each with its reason: what `init` writes.

A pure function of counts. The points it goes through are measured in `scripts/RESULTS.md` and
`scripts/bench/RESULTS.md`: configs/multi30k-en-de.yaml and its smaller model (29,000 pairs, 5 to 45
minutes), configs/demo.yaml (36,000, 7 minutes), configs/multi30k-gpu.yaml. Between and beyond these
it interpolates, and the reasons say so. Knows no text and no files.
"""

import math
from dataclasses import dataclass
from typing import Any

from mtrain.errors import UserError

SETS = {"valid": 50, "test": 50}  # held-out sets, with the fewest sources that say anything
HELD_OUT_SHARE = 0.05  # of the sources
MOST_HELD_OUT = 2000
MIN_SOURCES = 1000  # 5 % of them are the fewest above
VALID_PER_MINUTE = 200  # so that validation takes under a tenth of the time
FP32_SPEED = 1 / 1.6  # relative to bf16, on a CPU that has it
FILLED = 0.94  # target tokens of a batch over batch_tokens
EPOCHS_ON_GPU = 40  # of configs/multi30k-gpu.yaml
MOST_EPOCHS = 60  # 40 were the most that still gained; more would be learnt by heart
FEW_MINUTES = 15  # on two cores with bf16: models may loop


@dataclass(frozen=True)
class Machine:
    """What a training runs on."""

    num_cores: int
    precision: str  # that `training.precision: auto` chooses
    reason: str  # for the precision
    gpu: str | None = None  # its name


@dataclass(frozen=True)
class Task:
    """A corpus and the time to learn it in."""

    num_sources: int  # different ones
    num_pairs: int  # without duplicates
    tokens: tuple[float, float]  # of a line of each side
    minutes: float
    machine: Machine


@dataclass(frozen=True)
class Choice:
    """A key of a section of the configuration, its value, and the reason."""

    key: str
    value: Any
    reason: str = ""


@dataclass(frozen=True)
class Size:
    """A size of the Transformer."""

    layers: int  # of the encoder, and of the decoder
    d_model: int
    num_heads: int
    most_pieces: int  # vocabulary
    cpu_speed: int  # target tokens a second on two cores with bf16, validation included
    gpu_speed: int  # on an H100
    reason: str


SMALL = Size(4, 128, 4, 8000, 6500, 400_000,
             "best of those measured on 29,000 pairs, up to 45 minutes on two cores")  # fmt: skip
MEDIUM = Size(3, 256, 4, 16_000, 4200, 400_000,
              "wider than what is best for 29,000 pairs: more text and time; not measured",
              )  # fmt: skip
MEDIUM_ON_GPU = Size(3, 256, 4, 16_000, 4200, 400_000,
                     "as measured on 29,000 pairs on a GPU")  # fmt: skip
BASE = Size(6, 512, 8, 32_000, 1100, 557_000,
            "the base Transformer of Vaswani 2017; here only its speed is measured")  # fmt: skip


def advise(task: Task) -> dict[str, list[Choice]]:
    """Return the choices for each section, in the order to write them.

    Raises UserError if the corpus is too small to hold anything out of it.
    """
    if task.num_sources < MIN_SOURCES:
        raise UserError(
            f"the corpus has {task.num_sources:,} different sources; with fewer than "
            f"{MIN_SOURCES:,} nothing can be held out for valid and test",
            "add text; or write a configuration that names text files for data.valid",
        )
    size = _size(task)
    budget = size_budget(task, size)
    epoch = task.num_pairs * task.tokens[1]
    epochs = min(MOST_EPOCHS, budget / epoch)
    return {
        "data": _held_out(task),
        "tokenizer": _tokenizer(task, size),
        "model": _model(size, epochs),
        "training": _training(task, size, epochs * epoch, budget / epoch),
        "decoding": _decoding(task),
    }


def size_budget(task: Task, size: Size) -> float:
    """Return about how many target tokens a model of this size learns from in the time."""
    return task.minutes * 60 * _speed(task.machine, size)


def _speed(machine: Machine, size: Size) -> float:
    if machine.gpu:
        return size.gpu_speed
    return size.cpu_speed * machine.num_cores / 2 * _format_speed(machine)


def _format_speed(machine: Machine) -> float:
    return 1.0 if machine.precision == "bf16" else FP32_SPEED


def _size(task: Task) -> Size:
    """Return the size: a larger model needs both more text and more time."""
    if task.num_pairs >= 1_000_000 and size_budget(task, BASE) >= 200e6:
        return BASE
    if task.machine.gpu:
        return MEDIUM_ON_GPU
    if task.num_pairs >= 100_000 and size_budget(task, MEDIUM) >= 12e6:
        return MEDIUM
    return SMALL


def _held_out(task: Task) -> list[Choice]:
    share = int(task.num_sources * HELD_OUT_SHARE)
    few = max(SETS["valid"], int(task.minutes * VALID_PER_MINUTE))
    valid, test = min(MOST_HELD_OUT, share, few), min(MOST_HELD_OUT, share)

    def told(number: int) -> str:
        if number == share:
            return "5 % of the sources"
        return (
            "so that validation takes little time" if number < MOST_HELD_OUT else "enough to tell"
        )

    return [
        Choice("valid", {"from_train": valid}, f"{told(valid)}; all their pairs leave train"),
        Choice("test", {"from_train": test}, f"{told(test)}; others, for `mtrain score`"),
    ]


def _tokenizer(task: Task, size: Size) -> list[Choice]:
    """Choose a vocabulary through 6,000 pieces for the 0.9 million tokens of Multi30k."""
    million = task.num_pairs * sum(task.tokens) / 1e6
    grown = 6000 * (million / 0.9) ** 0.3
    pieces = max(1000, min(size.most_pieces, round(grown, -3)))
    is_cut = grown > size.most_pieces
    reason = f"for {million:,.1f} million tokens; measured: 6,000 for 0.9 million"
    if is_cut:
        reason += f"; more would slow down width {size.d_model}"
    return [Choice("type", "unigram"), Choice("vocab_size", int(pieces), reason)]


def _model(size: Size, epochs: float) -> list[Choice]:
    """Choose dropout through 0.05 for 10 epochs and 0.2 for 25, as on Multi30k."""
    dropout = round(max(0.0, min(0.2, round(0.2 * (epochs - 5)) * 0.05)), 2)
    reason = f"for {epochs:,.1f} passes over the text; measured: 0 for few, 0.2 for 25"
    if size is MEDIUM_ON_GPU and epochs >= EPOCHS_ON_GPU:
        dropout, reason = 0.3, "as measured on a GPU for 40 passes over the text"
    elif size is BASE:
        dropout, reason = 0.1, "as in Vaswani 2017"
    return [
        Choice("type", "transformer"),
        Choice("encoder_layers", size.layers, size.reason),
        Choice("decoder_layers", size.layers),
        Choice("d_model", size.d_model),
        Choice("num_heads", size.num_heads),
        Choice("ffn_dim", 4 * size.d_model),
        Choice("dropout", dropout, reason),
    ]


def _training(task: Task, size: Size, num_tokens: float, epochs: float) -> list[Choice]:
    optimizer, batch_tokens, rate, warmup, reason = _recipe(task, size)
    updates = max(1, round(num_tokens / (FILLED * batch_tokens)))
    warmup = max(1, min(warmup, updates // 10))
    validations = max(3, min(12, round(task.minutes / 3)))
    valid_every = _round(updates / validations)
    choices = [
        Choice("max_minutes", _plain(task.minutes), f"about {_round(updates):,} updates, "
               f"{min(epochs, MOST_EPOCHS):,.1f} passes over the text; the schedule fits the time"),
    ]  # fmt: skip
    if epochs > MOST_EPOCHS:
        reason_to_end = f"{MOST_EPOCHS} passes over the text: with more it would learn it by heart"
        choices.append(Choice("max_updates", _round(updates), reason_to_end))
    choices += [
        Choice("optimizer", optimizer, reason),
        Choice("batch_tokens", batch_tokens),
        Choice("learning_rate", rate),
        Choice("warmup_updates", warmup),
        Choice("valid_every", valid_every, f"about {round(updates / valid_every)} validations"),
    ]
    if task.machine.gpu and task.minutes < FEW_MINUTES:
        choices.append(Choice("compile_layers", False, "compiling would take 20 seconds of them"))
    return choices


def _recipe(task: Task, size: Size) -> tuple[str, int, float, int, str]:
    """Return optimiser, tokens a batch, learning rate, warm-up, and why."""
    if size is BASE:
        batch = 25_000 if task.machine.gpu else 8000
        return "adamw", batch, 7e-4, 4000, "rate and warm-up of Vaswani 2017, not measured here"
    if task.machine.gpu:
        return "adamw", 4096, 3e-3, 250, "with batch, rate and warm-up as measured on a GPU"
    warmup = 50 if _cpu_minutes(task) < FEW_MINUTES else 100
    return "muon", 2400, 4e-3, warmup, "ahead of adamw with the batch, rate and warm-up below"


def _cpu_minutes(task: Task) -> float:
    """Return the minutes that two cores with bf16 would take for as much."""
    machine = task.machine
    return task.minutes * machine.num_cores / 2 * _format_speed(machine)


def _decoding(task: Task) -> list[Choice]:
    if task.machine.gpu or _cpu_minutes(task) >= FEW_MINUTES:
        return []
    return [Choice("repetition_guard", True, "after so few minutes a model may loop")]


def _round(number: float) -> int:
    """Round to two digits, a whole number of at least 1."""
    digits = 1 - math.floor(math.log10(max(number, 1)))
    return max(1, int(round(number, min(0, digits))))


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number
