"""The learning rate of each update."""

import math

from mtrain.config.training import TrainingConfig

COOL_DOWN = 0.1  # share of the time budget in which inverse_sqrt decays to zero


def last_update(update: int, minutes: float, config: TrainingConfig) -> int:
    """Estimate the number of the last update from the `minutes` of the first `update` ones.

    Without `max_minutes` it is `max_updates`, whatever the clock says.
    """
    if config.max_minutes is None or not update or minutes <= 0:
        return config.max_updates
    return min(config.max_updates, max(update, int(update * config.max_minutes / minutes)))


def learning_rate(update: int, last: int, config: TrainingConfig) -> float:
    """Return the learning rate of the next update, after `update` of `last` updates.

    Linear warm-up; then linear or cosine decay to zero at `last`, or decay with 1/sqrt(update)
    (Vaswani 2017, section 5.3), which reaches zero only under a time budget.
    """
    warmup = config.warmup_updates
    if update < warmup:
        return config.learning_rate * (update + 1) / warmup
    done = min(1.0, (update - warmup) / max(1, last - warmup))
    if config.schedule == "linear":
        factor = 1 - done
    elif config.schedule == "cosine":
        factor = (1 + math.cos(math.pi * done)) / 2
    else:
        factor = math.sqrt(max(1, warmup) / max(1, update))
        if config.max_minutes is not None:
            factor *= min(1.0, (1 - done) / COOL_DOWN)
    return config.learning_rate * factor
