"""The loop on the small task: when it stops, what it leaves, and that going on changes nothing."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrain.checkpoints.collection import is_resumable, list_checkpoints, order_by_quality
from mtrain.checkpoints.format import (
    Checkpoint,
    load_checkpoint,
    read_state,
    weights_digest,
)
from mtrain.config import Config
from mtrain.data.batch import PairBatch
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.data.makers.packed import PackedMaker
from mtrain.data.updates import PlannedUpdate, planned_updates
from mtrain.distributed.group import ProcessGroup
from mtrain.errors import Interrupted, UserError
from mtrain.evaluation.kept import read_kept
from mtrain.models.base import NO_RECORD, AttentionRecord, Model, TranslationModel
from mtrain.runtime import onednn, precision
from mtrain.training.build import Setup, build_trainer
from mtrain.training.log import read_metrics
from mtrain.training.saving import Saver
from mtrain.training.signals import StopSignal
from mtrain.training.trainer import MAX_SKIPPED_IN_A_ROW
from mtrain.training.validation import Validation
from tests.in_process import (
    ONEDNN_IS_EXACT,
    learn,
    open_run,
    open_saver,
    save_run,
    small_config,
)


def train(config: Config, before: Callable[[Setup], None] = lambda setup: None) -> Setup:
    """Train in one sitting, once `before` has done something to what training consists of."""
    setup, run = open_run(config)
    before(setup)
    with StopSignal() as stop:
        build_trainer(setup, run, ProcessGroup(), stop).run()
    return setup


def at_every_batch(
    patch: pytest.MonkeyPatch, happens: Callable[[int, bool, Tensor], Tensor]
) -> Callable[[Setup], None]:
    """Return a `before` that lets something happen to the features of every batch.

    It is told the number of the batch, from 1 on, among those trained or those measured.
    """

    def before(setup: Setup) -> None:
        counts = {True: 0, False: 0}
        model = setup.state.model
        assert isinstance(model, TranslationModel)
        compute = model.features

        def features(batch: PairBatch, record: AttentionRecord = NO_RECORD) -> Tensor:
            is_training = model.training
            counts[is_training] += 1
            return happens(counts[is_training], is_training, compute(batch, record))

        patch.setattr(model, "features", features)

    return before


def checkpoints(config: Config) -> list[Path]:
    return list_checkpoints(RunFolder(config.run_dir).checkpoints)


def newest(config: Config) -> Checkpoint:
    return load_checkpoint(checkpoints(config)[-1], with_training=True)


def events(config: Config, kind: str) -> list[dict[str, Any]]:
    """Return what was logged, without what a clock had a part in."""
    timed = ("minutes", "tokens_per_second", "share_waiting_for_data")
    found = read_metrics(RunFolder(config.run_dir).metrics_path)
    return [{key: value for key, value in event.items() if key not in timed}
            for event in found if event["kind"] == kind]  # fmt: skip


def assert_same_tensors(one: Checkpoint, other: Checkpoint) -> None:
    for tensors, others in ((one.weights, other.weights), (one.training, other.training)):
        assert tensors.keys() == others.keys()
        assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []


def assert_same_end(one: Config, other: Config) -> None:
    """Two runs end in the same bits, having measured the same."""
    first, second = newest(one), newest(other)
    assert_same_tensors(first, second)
    for state in (first.state, second.state):
        del state["position"]["minutes"]
    assert first.state == second.state
    assert events(one, "valid") == events(other, "valid")


# -- when it stops ---------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["bleu", "chrf", "loss"])
def test_it_stops_early_when_patience_is_over(
    metric: str, small_task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a learning rate so small that no weight moves, only the first validation is the best.

    A score that ends the run without telling checkpoints apart is said.
    """
    training = {
        "learning_rate": 1e-30,
        "max_updates": 50,
        "valid_every": 2,
        "patience": 2,
        "valid_metric": metric,
    }
    config = small_config(small_task, tmp_path / "run", training)
    train(config)
    told = capsys.readouterr().err
    assert told.count("cannot tell the checkpoints apart") == (metric != "loss")
    assert [event["update"] for event in events(config, "valid")] == [2, 4, 6]
    assert newest(config).state["position"]["update"] == 6
    train(config)  # it has not forgotten that it was finished
    assert newest(config).state["position"]["update"] == 6


@pytest.mark.parametrize("metric", ["bleu", "loss"])
def test_a_model_that_gives_no_numbers_is_measured_and_is_never_the_best(
    metric: str, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the first validation are none: it ends as it should, the last one is the best."""

    def spoil(setup: Setup) -> None:
        validate = setup.validator.validate

        def spoilt(model: Model, *others: Any) -> Validation:
            monkeypatch.undo()
            weight = model.output.weight
            own = weight.detach().clone()
            try:
                with torch.no_grad():
                    weight.fill_(float("nan"))
                return validate(model, *others)
            finally:
                with torch.no_grad():
                    weight.copy_(own)

        monkeypatch.setattr(setup.validator, "validate", spoilt)

    training = {"valid_every": 2, "max_updates": 4, "valid_metric": metric, "patience": 2}
    config = small_config(small_task, tmp_path / "run", training)
    train(config, spoil)
    first, second = events(config, "valid")
    assert (first["loss"], first["bleu"]) == (None, 0.0)
    assert second["loss"] is not None
    assert order_by_quality(checkpoints(config), metric)[-1].name == "update-00000004"


def test_it_does_not_stop_while_it_gets_better(small_task: Path, tmp_path: Path) -> None:
    training = {"max_updates": 12, "valid_every": 2, "patience": 1, "valid_metric": "loss"}
    config = small_config(small_task, tmp_path / "run", training)
    train(config)
    losses = [event["loss"] for event in events(config, "valid")]
    assert len(losses) == 6
    assert losses == sorted(losses, reverse=True)


def test_another_metric_begins_anew_on_resume(small_task: Path, tmp_path: Path) -> None:
    """A loss never reaches a score of the metric before: patience would end the run."""
    first = {"max_updates": 4, "valid_every": 2}
    train(small_config(small_task, tmp_path / "run", first))
    training = {"max_updates": 12, "valid_every": 2, "patience": 1, "valid_metric": "loss"}
    config = small_config(small_task, tmp_path / "run", training)
    train(config)
    assert [event["update"] for event in events(config, "valid")] == [2, 4, 6, 8, 10, 12]
    assert newest(config).state["position"]["metric"] == "loss"


@pytest.mark.parametrize("schedule", ["linear", "inverse_sqrt"])
def test_a_time_budget_is_kept_and_the_rate_comes_down_in_it(
    schedule: str, small_task: Path, tmp_path: Path
) -> None:
    budget = 0.05
    training = {
        "max_minutes": budget,
        "max_updates": 1_000_000,
        "valid_every": 40,
        "schedule": schedule,
    }
    config = small_config(small_task, tmp_path / "run", training)
    train(config)
    position = newest(config).state["position"]
    assert budget / 2 < position["minutes"] < 2 * budget
    assert position["validated_update"] == position["update"]
    rates = [event["learning_rate"] for event in events(config, "train")]
    assert max(rates) > 0.5 * config.training.learning_rate
    assert rates[-1] < 0.25 * config.training.learning_rate


# -- what is not finite ----------------------------------------------------------------------------


NAN = float("nan")


def test_20_updates_in_a_row_that_are_not_finite_end_the_run_with_the_last_good_weights(
    small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"max_updates": 6, "valid_every": 100, "schedule": "inverse_sqrt"}
    good = small_config(small_task, tmp_path / "good", training)
    train(good)
    config = small_config(small_task, tmp_path / "run", {**training, "max_updates": 90})
    spoil = at_every_batch(
        monkeypatch, lambda count, _, features: features * (NAN if count > 6 else 1.0)
    )
    with pytest.raises(UserError, match=f"{MAX_SKIPPED_IN_A_ROW} updates in a row") as error:
        train(config, spoil)
    assert "learning_rate" in error.value.hint
    assert "run_dir of its own" in error.value.hint
    last, last_good = newest(config), newest(good)
    assert last.state["position"]["update"] == 6 + MAX_SKIPPED_IN_A_ROW
    assert last.state["position"]["skipped"] == MAX_SKIPPED_IN_A_ROW
    assert_same_tensors(last, last_good)

    train(small_config(small_task, tmp_path / "run", {**training, "max_updates": 28}))
    assert newest(config).state["position"]["update"] == 28  # and it can be gone on with


def test_now_and_then_an_update_that_is_not_finite_is_skipped_and_counted(
    small_task: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All but every nineteenth: never twenty in a row."""
    config = small_config(small_task, tmp_path / "run", {"max_updates": 57, "valid_every": 100})
    spoil = at_every_batch(
        monkeypatch,
        lambda count, is_training, features: (
            features * (NAN if is_training and count % 19 else 1.0)
        ),
    )
    train(config, spoil)
    assert newest(config).state["position"]["skipped"] == 54
    assert [event["skipped"] for event in events(config, "train")][17:20] == [18, 18, 19]
    assert "54 updates skipped" in capsys.readouterr().err


# -- going on --------------------------------------------------------------------------------------

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ema": {"ema_decay": 0.9},
    "subword-sampling": {"subword_sampling": 0.2},
    "save-every": {"save_every": 3, "keep_last": 3},
}


@pytest.fixture(scope="module", params=SETTINGS.values(), ids=SETTINGS.keys())
def undisturbed(
    request: pytest.FixtureRequest, small_task: Path, tmp_path_factory: pytest.TempPathFactory
) -> Config:
    """A run of 16 updates, one and a half epochs, that nothing has interrupted. Dropout is on."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    training = {"accumulate": 2, "max_updates": 16, "valid_every": 6, **request.param}
    config = small_config(small_task, run_dir, training)
    train(config)
    return config


def test_a_run_stopped_at_any_moment_ends_in_the_same_bits(
    undisturbed: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real signals: in the first batch of an update, in its second, and while validating."""
    config = undisturbed.model_copy(update={"run_dir": tmp_path / "run"})
    updates = []
    for number, in_training, signal_number in (
        (1, True, signal.SIGTERM),
        (4, True, signal.SIGINT),
        (1, False, signal.SIGTERM),
        (3, True, signal.SIGINT),
    ):

        def stop(
            count: int, is_training: bool, features: Tensor, at: object = (number, in_training),
            signal_number: int = signal_number,
        ) -> Tensor:  # fmt: skip
            if (count, is_training) == at:
                os.kill(os.getpid(), signal_number)
            return features

        with pytest.raises(Interrupted) as stopped:
            train(config, at_every_batch(monkeypatch, stop))
        assert stopped.value.exit_code == 128 + signal_number
        updates.append(newest(config).state["position"]["update"])
    # an update is given up or finished, never saved by halves; the validation is made up for
    assert updates == [0, 2, 6, 7]
    train(config)
    assert_same_end(undisturbed, config)


def test_a_finished_run_run_again_changes_nothing(undisturbed: Config) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.run_dir.rglob("*.safetensors")}
    train(undisturbed)
    after = {path: path.stat().st_mtime_ns for path in undisturbed.run_dir.rglob("*.safetensors")}
    assert before
    assert after == before


def test_a_damaged_newest_checkpoint_costs_time_only(
    small_task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"max_updates": 8, "valid_every": 4}
    config = small_config(small_task, tmp_path / "run", training)
    train(config)
    damaged = checkpoints(config)[-1]
    model = damaged / "model.safetensors"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    whole = small_config(small_task, tmp_path / "whole", training)
    train(whole)
    capsys.readouterr()
    train(config)
    assert str(damaged) in capsys.readouterr().err
    aside = damaged.with_name(f"damaged-{damaged.name}")
    assert (aside / model.name).read_bytes() == content
    assert checkpoints(config)[-1].name == damaged.name
    assert_same_end(whole, config)


def test_checkpoints_of_other_data_are_not_gone_on_from(small_task: Path, tmp_path: Path) -> None:
    config = small_config(small_task, tmp_path / "run", {"max_updates": 4})
    train(config)
    setup, run = open_run(config)
    other = replace(setup, identity=replace(setup.identity, store="of another store"))
    with pytest.raises(UserError, match="was trained on other data"):
        build_trainer(other, run, ProcessGroup(), StopSignal())


# -- what it leaves --------------------------------------------------------------------------------


def test_the_newest_checkpoints_are_averaged_into_one_more(
    small_task: Path, tmp_path: Path
) -> None:
    training = {"max_updates": 12, "valid_every": 4, "average_checkpoints": 2, "keep_last": 3}
    config = small_config(small_task, tmp_path / "run", training)
    train(config)
    paths = {path.name: path for path in checkpoints(config)}
    average = load_checkpoint(paths.pop("update-00000012.average"), with_training=True)
    last = [load_checkpoint(paths[f"update-{update:08}"], with_training=False).weights
            for update in (8, 12)]  # fmt: skip
    for name, tensor in average.weights.items():
        torch.testing.assert_close(tensor, (last[0][name] + last[1][name]) / 2)
        assert name.endswith("bias") or not torch.equal(tensor, last[1][name])
    assert average.state["validation"] is not None
    assert not is_resumable(average.path)
    assert events(config, "valid")[-1]["averaged"] == 2

    train(config)  # again: it stands already
    assert len(events(config, "valid")) == 4
    train(small_config(small_task, tmp_path / "run", {**training, "max_updates": 14}))
    longer = newest(config)
    assert longer.path.name == "update-00000014.average"
    assert longer.state["position"]["update"] == 14


def test_a_stop_at_the_last_update_changes_nothing_about_the_average(
    small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though that update is saved twice then, before its validation and after it."""
    training = {"max_updates": 12, "valid_every": 4, "average_checkpoints": 2, "keep_last": 2}
    whole = small_config(small_task, tmp_path / "whole", training)
    train(whole)
    config = small_config(small_task, tmp_path / "run", training)

    def stop(count: int, is_training: bool, features: Tensor) -> Tensor:
        if (count, is_training) == (12, True):
            os.kill(os.getpid(), signal.SIGTERM)
        return features

    with pytest.raises(Interrupted):
        train(config, at_every_batch(monkeypatch, stop))
    train(config)
    assert "update-00000012.1" in {path.name for path in checkpoints(config)}
    assert_same_tensors(newest(config), newest(whole))
    assert newest(config).path.name == "update-00000012.average"


def test_the_best_checkpoint_is_kept_though_it_is_old(small_task: Path, tmp_path: Path) -> None:
    """The rate grows and grows, until it destroys more than is learnt."""
    training = {
        "max_updates": 8,
        "valid_every": 2,
        "valid_metric": "loss",
        "keep_last": 1,
        "learning_rate": 100.0,
        "warmup_updates": 1000,
        "clip_norm": 0.0,
    }
    config = small_config(small_task, tmp_path / "run", training)
    train(config)
    losses = {event["update"]: event["loss"] for event in events(config, "valid")}
    best = min(losses, key=lambda update: losses[update])
    kept = [read_state(path)["position"]["update"] for path in checkpoints(config)]
    assert best < 8
    assert kept == [best, 8]
    translated = read_kept(config.run_dir / "valid.json", "valid")
    assert translated is not None
    assert translated.checkpoint == f"update-{best:08}"
    assert translated.weights == weights_digest(checkpoints(config)[0])
    assert len(translated.texts[0].hypotheses) == 12


def test_with_an_average_the_checkpoint_translates_with_it_and_goes_on_from_the_weights(
    small_task: Path, tmp_path: Path
) -> None:
    config = small_config(small_task, tmp_path / "run", {"ema_decay": 0.9})
    state = train(config).state
    saved = newest(config)
    for name, parameter in state.model.named_parameters():
        assert torch.equal(saved.training[f"own/{name}"], parameter)
        assert torch.equal(saved.weights[name], state.average.weights[name])
        assert not torch.equal(saved.weights[name], parameter)


def test_where_every_checkpoint_is_damaged_none_is_averaged(
    small_task: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    training = {"max_updates": 4, "valid_every": 4, "average_checkpoints": 1}
    config = small_config(small_task, tmp_path / "run", training)
    find = Saver.mean_of_newest

    def damage_first(saver: Saver, count: int) -> Any:
        saver.wait()
        for path in checkpoints(config):
            (path / "model.safetensors").write_bytes(b"")
        return find(saver, count)

    monkeypatch.setattr(Saver, "mean_of_newest", damage_first)
    train(config)
    assert "no checkpoint is whole" in capsys.readouterr().err
    assert [path.name for path in checkpoints(config)] == ["update-00000004"]


def open_packed(config: Config) -> tuple[Setup, RunFolder]:
    """Return what trains where batches are packed, as they are for a GPU."""
    setup, run = open_run(config)
    tokenizers = DataFolder(config.data_path).tokenizers()
    maker = PackedMaker(setup.store, tokenizers, 40, config.training.batch_tokens)

    def updates(stage: int, epoch: int, batch: int) -> Iterator[PlannedUpdate]:
        accumulate, mixture = config.training.accumulate, setup.mixtures[stage]
        return planned_updates(maker, mixture, config.seed, accumulate, (epoch, batch), (0, 1))

    identity = replace(setup.identity, batches=maker.kind)
    return replace(setup, maker=maker, updates=updates, identity=identity), run


def test_training_on_packed_batches_learns_and_resumes_bit_for_bit(
    small_task: Path, tmp_path: Path
) -> None:
    training = {"batch_tokens": 512, "accumulate": 2}
    whole, _ = open_packed(small_config(small_task, tmp_path / "whole", training))
    results = learn(whole, 40)
    assert results[-1].loss < 0.8 * results[0].loss
    config = small_config(small_task, tmp_path / "two", training)
    for until in (21, 40):  # the first is in the middle of an epoch
        setup, run = open_packed(config)
        saver = open_saver(setup, run)
        saver.resume()
        learn(setup, until)
        saver.save(None)
        saver.wait()
    for name, weight in whole.state.model.named_parameters():
        assert torch.equal(weight, setup.state.model.get_parameter(name)), name


def test_resuming_where_batches_are_others_begins_the_next_epoch(
    small_task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a run does that moves from a GPU to a CPU."""
    config = small_config(small_task, tmp_path / "run")
    setup, run = open_packed(config)
    learn(setup, 5)
    assert (setup.state.position.epoch, setup.state.position.batch) == (0, 5)
    save_run(setup, run)
    again, _ = open_packed(config)
    open_saver(again, run).resume()
    assert (again.state.position.epoch, again.state.position.batch) == (0, 5)
    assert "next epoch" not in capsys.readouterr().err
    moved, _ = open_run(config)
    open_saver(moved, run).resume()
    position = moved.state.position
    assert (position.update, position.epoch, position.batch) == (5, 1, 0)
    assert "next epoch" in capsys.readouterr().err


@pytest.mark.parametrize(("batch_tokens", "name"), [(1302, "fp32"), (1303, "bf16")])
def test_the_size_of_the_products_decides_on_bf16_and_on_who_multiplies(
    batch_tokens: int,
    name: str,
    products: Any,
    small_task: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """3 million, at a width of 48; neither changes when what validates is built."""
    monkeypatch.setattr(precision, "bf16_speedup", lambda: 2.0)
    monkeypatch.setattr(onednn, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("vendor_id\t: AuthenticAMD\n")
    training = {"batch_tokens": batch_tokens, "precision": "auto"}
    for kind, width in (("rnn", "hidden_dim"), ("transformer", "d_model")):
        model = {"type": kind, width: 48}
        config = small_config(small_task, tmp_path / kind, training, model)
        setup, run = open_run(config)
        with StopSignal() as stop:
            build_trainer(setup, run, ProcessGroup(), stop)
        assert setup.precision.name == name
        uses_onednn = ONEDNN_IS_EXACT and name == "bf16"
        assert products.fp32_precision == ("bf16" if uses_onednn else "none")
