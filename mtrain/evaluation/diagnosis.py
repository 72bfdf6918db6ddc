"""Reads a learning curve and a model's first translations, and says what to do next."""

from collections.abc import Mapping, Sequence
from typing import Any

LAST_SHARE = 0.1  # of the training time, in which the gain is reported
WORTHWHILE_GAIN = 0.3  # BLEU in that time that justifies more minutes
WORTHWHILE_FALL = 0.01  # of the dev loss, where there is no BLEU
RISE = 1.02  # dev loss over its minimum that counts as overfitting
FEW_TRANSLATIONS = 0.02  # different translations per sentence that count as all alike
FEWEST = 20  # sentences of valid, to judge the translations by
MOST_EMPTY = 0.5  # share of empty translations
SOURCE_GAIN = 0.01  # nats a token that the right source must save, compared with a wrong one


def describe_curve(events: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what the validations of a finished training suggest, or None if they are too few.

    `events` are those of metrics.jsonl.
    """
    valid = [event for event in events if event["kind"] == "valid" and not event.get("averaged")
             and event["loss"] is not None]  # fmt: skip
    if len(valid) < 3:
        return None
    last, lowest = valid[-1], min(valid, key=lambda event: float(event["loss"]))
    before, after = (_train_loss(events, event["update"]) for event in (lowest, last))
    if last["loss"] > RISE * lowest["loss"] and after < before:
        return (
            f"dev loss has risen since update {lowest['update']:,} ({lowest['loss']:.3f} to "
            f"{last['loss']:.3f}) while train loss fell: more dropout or more data will help"
        )
    told = f"in the last {LAST_SHARE:.0%} of the time"
    if "bleu" not in last:
        fall = _at(valid, "loss", (1 - LAST_SHARE) * last["minutes"]) - last["loss"]
        more = "will help" if fall >= WORTHWHILE_FALL else "will hardly help"
        return f"dev loss fell by {max(fall, 0.0):.3f} {told}: more minutes {more}"
    gain = last["bleu"] - _at(valid, "bleu", (1 - LAST_SHARE) * last["minutes"])
    if gain >= WORTHWHILE_GAIN:
        return f"dev BLEU still rose by {gain:.1f} {told}: more minutes will help"
    return (
        f"dev BLEU rose by only {max(gain, 0.0):.1f} {told}: more minutes will hardly help; a "
        "larger model or more data may"
    )


def describe_translations(
    hypotheses: Sequence[str], loss: float, loss_with_wrong_sources: float
) -> str | None:
    """Return what is wrong with the first translations of the valid set, or None.

    The losses are per token, given the right sources and given those of other sentences.
    """
    if len(hypotheses) < FEWEST:
        return None
    too_early = "if the next validation says so too"
    empty = sum(not hypothesis for hypothesis in hypotheses) / len(hypotheses)
    if empty > MOST_EMPTY:
        return (
            f"{empty:.0%} of the translations of valid are empty; {too_early}, look for empty or "
            "cut target lines in data.train"
        )
    if loss_with_wrong_sources - loss < SOURCE_GAIN:
        return (
            "the model does not use the source: given the sources of other sentences, dev loss is "
            f"{loss_with_wrong_sources:.3f} instead of {loss:.3f}; {too_early}, the likeliest "
            "cause is that the lines of source and target in data.train do not match"
        )
    different = len(set(hypotheses))
    if different <= max(1, FEW_TRANSLATIONS * len(hypotheses)) < len(hypotheses):
        return (
            f"the {len(hypotheses):,} translations of valid are only {different} different texts; "
            f"{too_early}, lower training.learning_rate or lengthen training.warmup_updates"
        )
    return None


def _train_loss(events: Sequence[Mapping[str, Any]], update: int) -> float:
    """Return the last train loss up to an update; infinity if there is none."""
    losses = [event["loss"] for event in events if event["kind"] == "train"
              and event["update"] <= update and event["loss"] is not None]  # fmt: skip
    return float(losses[-1]) if losses else float("inf")


def _at(valid: Sequence[Mapping[str, Any]], figure: str, minutes: float) -> float:
    """Return a figure of valid at a time, interpolated between validations."""
    after = next(place for place, event in enumerate(valid) if event["minutes"] >= minutes)
    if after == 0:
        return float(valid[0][figure])
    early, late = valid[after - 1], valid[after]
    share = (minutes - early["minutes"]) / max(late["minutes"] - early["minutes"], 1e-9)
    return float(early[figure] + share * (late[figure] - early[figure]))
