"""`mtrain report`, and the end of `mtrain train`: one HTML page about a run."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from mtrain.commands.opening import open_run
from mtrain.commands.report_attention import see_alignments
from mtrain.commands.run_facts import VALID, RunFacts, describe_languages, score_tests_of
from mtrain.config import Config
from mtrain.console import format_seconds, say, warn
from mtrain.data.folders import OpenedRun
from mtrain.errors import UserError
from mtrain.evaluation.metrics import Score
from mtrain.evaluation.report.alignments import Heatmap
from mtrain.evaluation.report.page import Content, is_page, render
from mtrain.evaluation.scored import ScoredSet, SetTexts, score_set
from mtrain.inference.load import LoadedRun, load_quietly
from mtrain.text.streams import is_stdout, open_output

SCORE_NAMES = {"bleu": "BLEU", "chrf": "chrF", "accuracy": "masked accuracy", "loss": "loss"}


def report(
    opened: OpenedRun, output: Path | None, wants_tests: bool, overrides: Sequence[str] | None
) -> None:
    """Write the page of a run, by default as its report.html; with its test sets if wanted.

    Raises UserError if the run has never validated, or if its report.html is another program's.
    """
    facts = RunFacts.of(opened)
    _check_validated(facts)
    path = output or facts.run.report_path
    if output is None and path.exists() and not is_page(path):
        raise UserError(
            f"{path}: not written by mtrain, which would overwrite it",
            "rename it, or name another file with --output",
        )
    with open_output(path) as file:
        content = _content(facts, wants_tests, overrides)
        file.write(render(content).encode())
    if not is_stdout(path):
        say(f"{path}: the report of {facts.run.path}")


def report_trained(config: Config) -> None:
    """Write the page of a run that has just been trained; warn if that is impossible."""
    try:
        report(open_run(config.run_dir, None), None, False, None)
    except (UserError, OSError, MemoryError, RuntimeError) as error:  # torch raises the last
        message = error.message if isinstance(error, UserError) else str(error)
        warn(
            f"no report.html ({message}); the training is complete and saved; to try again: "
            f"mtrain report {config.run_dir}"
        )


def _check_validated(facts: RunFacts) -> None:
    if facts.validations or facts.validation:
        return
    run, training = facts.run.path, facts.config.training
    if facts.best is not None and not facts.best_update:
        hint = (
            f"it was imported or has not begun: mtrain score {run}, or train a run that starts "
            f"from it: model: {{init_from: {run}}}"
        )
    else:
        hint = (
            "train on: mtrain train CONFIG.yaml validates every training.valid_every "
            f"{training.valid_every:,} updates and at the end"
        )
    raise UserError(f"{run}: this run has never validated, so there is nothing to report", hint)


def _content(facts: RunFacts, wants_tests: bool, overrides: Sequence[str] | None) -> Content:
    @cache
    def load() -> LoadedRun:
        return load_quietly(facts.run, facts.config, None)

    # first: it refuses a run without test sets
    tests = score_tests_of(facts, overrides) if wants_tests else []
    texts, scores_note = _valid(facts, load)
    scored = [score_set(each, None) for each in texts] or _masked_scores(facts)
    heatmaps, attention_note = _attention(facts, texts, load)
    return Content(
        name=facts.name,
        facts=[*_about(facts), *_size(load)],
        events=facts.events,
        best_update=facts.best_update,
        scored=[*scored, *tests],
        scores_note=scores_note,
        heatmaps=heatmaps,
        attention_note=attention_note,
        manifest=facts.manifest,
        manifest_note=(
            "What prepare made of the data is not known: there is no data.json in the run folder, "
            f"and {facts.config.data_path} is gone or holds other data by now."
        ),
        configuration=facts.run.config_path.read_text("utf-8"),
    )


def _valid(facts: RunFacts, load: Callable[[], LoadedRun]) -> tuple[list[SetTexts], str]:
    """Return valid as the best checkpoint translates it, and what to say if that is not known."""
    gone = (
        "The texts of valid are neither in valid.json in the run folder nor in the data folder "
        f"{facts.config.data_path}: no scores, no samples."
    )
    try:
        return facts.valid_texts(load) if facts.best is not None else [], gone
    except UserError as error:  # no checkpoint can be read
        warn(error.message)
        return [], f"No scores, no samples: {error.message}."


def _masked_scores(facts: RunFacts) -> list[ScoredSet]:
    """Return the scores of a model that fills masked tokens, as its validation found them."""
    found = facts.validation
    if "accuracy" not in found:
        return []
    figures = {
        "accuracy in percent": found["accuracy"],
        "perplexity": math.exp(min(found["loss"], 50.0)),
        "loss": found["loss"],
    }
    training = facts.config.training
    words = "yes" if training.mask_whole_words else "no"
    signature = f"masked:{training.masked_share:g}|whole_words:{words}"
    scores = [Score(name, value, signature) for name, value in figures.items()]
    count = (facts.manifest or {}).get("valid_pairs", 0)
    return [ScoredSet(VALID, describe_languages(facts.config), count, scores, [], [], [])]


def _attention(
    facts: RunFacts, texts: Sequence[SetTexts], load: Callable[[], LoadedRun]
) -> tuple[list[Heatmap], str]:
    """Return heat maps of some translations, and what to say of them."""
    more = f"mtrain attention {facts.run.path} FILE shows every layer and head."
    if facts.config.learns_from_text:
        return [], more
    if not texts:
        return [], f"There are no translations of valid to show. {more}"
    try:
        return see_alignments(load(), texts), (
            "How much each word of a translation, a row, attends to the words of its source, by "
            f"the head that aligns words. {more}"
        )
    except UserError as error:  # no attention over the source
        return [], f"{error.message[0].upper()}{error.message[1:]}."


def _about(facts: RunFacts) -> list[tuple[str, str]]:
    """Return what the folder tells of a run, as labels and values."""
    config, state = facts.config, facts.state
    last = facts.events[-1] if facts.events else state.get("position", {})
    about = {
        "Model": config.model.type,
        "Languages": describe_languages(config),
        "Imported from": state.get("imported_from", ""),
        "Starts from": str(config.model.base.run) if config.model.base else "",
        "Updates": f"{last['update']:,}" if "update" in last else "",
        "Time": format_seconds(60 * last["minutes"]) if "minutes" in last else "",
        "Tokens learnt from": f"{last['target_tokens']:,}" if "target_tokens" in last else "",
        "Stages": str(len(config.data.stages)) if config.data.stages else "",
        "Trained on": f"{state['device']} in {state['precision']}" if "device" in state else "",
        "Best checkpoint": facts.best.name if facts.best is not None else "",
        "Its dev scores": ", ".join(
            f"{name} {facts.validation[key]:.{3 if key == 'loss' else 2}f}"
            for key, name in SCORE_NAMES.items()
            if facts.validation.get(key) is not None
        ),
        "Chosen by": f"dev {SCORE_NAMES[config.training.valid_metric]}",
        "mtrain": state.get("mtrain", ""),
    }
    return [(label, value) for label, value in about.items() if value]


def _size(load: Callable[[], LoadedRun]) -> list[tuple[str, str]]:
    try:
        return [("Parameters", f"{load().num_parameters:,}")]
    except UserError as error:
        warn(error.message)
        return []
