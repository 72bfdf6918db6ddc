"""Watch sets in training: what they steer (nothing), a stop while one is scored, the forecast."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from mtrain.commands.prepare import prepare
from mtrain.config import Config
from mtrain.distributed.group import ProcessGroup
from mtrain.errors import Interrupted
from mtrain.training import forecast
from mtrain.training.dry_run import build_forecaster
from mtrain.training.translation_scorer import TranslationScorer
from mtrain.training.validation import Scores, Validation
from tests.conftest import write_task
from tests.in_process import open_setup, small_config
from tests.unit.training.test_trainer import (
    assert_same_end,
    assert_same_tensors,
    at_every_batch,
    checkpoints,
    events,
    newest,
    train,
)

TRAINING = {"max_updates": 12, "valid_every": 2, "keep_last": 1, "valid_metric": "loss"}


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small task, prepared with and without watch sets into two folders."""
    folder = tmp_path_factory.mktemp("watch")
    write_task(folder, {"train": 300, "valid": 24, "test": 2})
    # mostly nothing to translate, and what there is has the wrong target
    (folder / "odd.digits").write_text("\n" * 30 + "1 2\n" * 4)
    (folder / "odd.words").write_text("nine\n" * 34)
    for is_watched in (False, True):
        prepare(config_for(folder, folder / "run", is_watched))
    return folder


def config_for(
    folder: Path, run_dir: Path, is_watched: bool = True, training: dict[str, Any] = TRAINING
) -> Config:
    """Return a configuration that watches valid itself and an odd set, or neither."""
    config = small_config(folder, run_dir, training)
    if not is_watched:
        return config
    pairs = {name: {"source": folder / f"{name}.digits", "target": folder / f"{name}.words"}
             for name in ("odd", "valid")}  # fmt: skip
    watch = [pairs["valid"] | {"name": "same"}, pairs["odd"] | {"name": "odd"}]
    tree = config.model_dump()
    tree |= {"data": tree["data"] | {"watch": watch}, "data_dir": folder / "watched"}
    return Config.model_validate(tree)


def without_watch(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if key != "watch"}


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.split("\n") if line.startswith("warning: ")]


@pytest.mark.parametrize("metric", ["bleu", "loss"])
def test_watch_sets_are_scored_as_valid_is_and_steer_nothing(
    metric: str, task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the weights, nor which checkpoints are kept, nor patience, nor what is warned of."""
    training = TRAINING | {"valid_metric": metric, "average_checkpoints": 1, "patience": 3}
    plain = config_for(task, tmp_path / "plain", False, training)
    train(plain)
    warned = warnings(capsys)
    watched = config_for(task, tmp_path / "watched", training=training)
    train(watched)
    assert warnings(capsys) == warned
    assert events(watched, "train") == events(plain, "train")
    assert [without_watch(event) for event in events(watched, "valid")] == events(plain, "valid")
    for event in events(watched, "valid"):
        assert list(event["watch"]) == ["same", "odd"]
        assert event["watch"]["same"] == {key: event[key] for key in ("loss", "bleu", "chrf")}
        assert event["watch"]["odd"]["loss"] != event["loss"]
    assert "watch" not in events(plain, "valid")[0]
    assert [path.name for path in checkpoints(watched)] == [
        path.name for path in checkpoints(plain)
    ]
    one, other = newest(plain), newest(watched)
    assert_same_tensors(one, other)
    for state in (one.state, other.state):
        del state["position"]["minutes"]
    validation = other.state["validation"]
    assert one.state == {**other.state, "validation": without_watch(validation)}
    assert validation["watch"] == events(watched, "valid")[-1]["watch"]


def test_a_stop_while_a_watch_set_is_scored_changes_nothing(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is as if the whole validation had been stopped."""
    whole = config_for(task, tmp_path / "whole")
    config = config_for(task, tmp_path / "run")
    num_batches = 0  # of valid's loss

    def count(count: int, is_training: bool, features: Tensor) -> Tensor:
        nonlocal num_batches
        num_batches += not is_training
        return features

    def stop(count: int, is_training: bool, features: Tensor) -> Tensor:
        if (count, is_training) == (num_batches + 1, False):
            os.kill(os.getpid(), signal.SIGTERM)
        return features

    setup = open_setup(config)
    at_every_batch(monkeypatch, count)(setup)
    valid = setup.validator.valid
    valid.score(setup.state.model, lambda count: None, ProcessGroup())
    assert num_batches
    scored, score = [], TranslationScorer.score

    def noted(scorer: TranslationScorer, *others: Any) -> Scores:
        scored.append(scorer)
        return score(scorer, *others)

    monkeypatch.setattr(TranslationScorer, "score", noted)
    with pytest.raises(Interrupted):
        train(config, at_every_batch(monkeypatch, stop))
    assert len(scored) == 2  # valid, and the first watch set
    state = newest(config).state
    assert (state["position"]["update"], state["position"]["validated_update"]) == (2, -1)
    assert state["validation"] is None
    assert events(config, "valid") == []
    train(config)
    train(whole)
    assert_same_end(whole, config)


def test_the_forecast_counts_each_watch_set(
    task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 0.0

    def score_some(scorer: TranslationScorer, model: object, num_sentences: int) -> float:
        nonlocal seconds
        seconds += len(scorer) / 100
        return 0.5

    def clock() -> float:
        nonlocal seconds
        seconds += 1e-5
        return seconds

    monkeypatch.setattr(TranslationScorer, "score_some", score_some)
    monkeypatch.setattr(forecast.time, "perf_counter", clock)
    for is_watched, for_watch in ((False, 0.0), (True, 2 * (0.24 + 0.34))):
        config = config_for(task, tmp_path / "run", is_watched)
        found = build_forecaster(open_setup(config), ProcessGroup()).forecast(config.run_dir)
        assert found.seconds_for_watch == pytest.approx(for_watch, abs=0.01)
        assert found.seconds_per_validation == pytest.approx(2 * 0.24 + for_watch, abs=0.01)
        assert ("s for data.watch" in str(found)) is is_watched


def test_a_validation_is_restored_from_its_dictionary() -> None:
    for watch in ({}, {"general": Scores(1.0, 2.0, 3.0)}):
        validation = Validation(4.0, 5.0, 6.0, watch=watch)
        assert Validation.from_dict(validation.as_dict()) == validation
    assert Validation(4.0, 5.0, 6.0).as_dict() == {"loss": 4.0, "bleu": 5.0, "chrf": 6.0}
    assert "; watch general: loss 1.000, BLEU 2.00" in str(validation)
