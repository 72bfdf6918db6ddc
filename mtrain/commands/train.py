"""`mtrain train`: train on prepared data; the same command resumes."""

from contextlib import nullcontext
from pathlib import Path

from mtrain.checkpoints.collection import list_checkpoints, order_by_quality
from mtrain.config import Config
from mtrain.console import say
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.distributed.group import ProcessGroup
from mtrain.distributed.shared_folder import check_shared
from mtrain.errors import EXIT_GATE_FAILED, UserError
from mtrain.evaluation.diagnosis import describe_curve
from mtrain.inference.features import bytes_to_copy, keep_features
from mtrain.training.build import build_setup, build_trainer
from mtrain.training.dry_run import build_forecaster
from mtrain.training.log import learning_curve, read_metrics
from mtrain.training.signals import StopSignal


def train(config: Config, config_path: Path | None = None) -> str | None:
    """Train to the end and return the learning curve, or None in all processes but the first.

    `config_path` is the configuration's file, for error messages.
    """
    with ProcessGroup() as group:
        config, data, run = _open(config, config_path)
        setup = build_setup(config, data, group)  # first, so that its errors leave no run folder
        with run.lock() if group.is_first else nullcontext():
            if group.is_first:
                run.begin(config, data)
            check_shared(run.path, group)
            with StopSignal() as stop:  # from now on a signal saves before it ends the command
                trainer = build_trainer(setup, run, group, stop)
                if group.is_first and setup.features is not None:
                    keep_features(setup.features, run)
                trainer.run()
        if not group.is_first:
            return None
        metric = config.training.valid_metric
        best = order_by_quality(list_checkpoints(run.checkpoints), metric)[-1]
        events = read_metrics(run.metrics_path)
        if (advice := describe_curve(events)) is not None:
            say(advice)
        return f"{learning_curve(events)}\nbest by dev {metric}: {best}"


def check(config: Config, config_path: Path | None = None) -> str | None:
    """Return the forecast of a dry run, or None in all processes but the first. Writes nothing.

    Raises `UserError`, with EXIT_GATE_FAILED, if the disk has no room for the run.
    """
    with ProcessGroup() as group:
        config, data, run = _open(config, config_path)
        setup = build_setup(config, data, group)
        copied = 0 if setup.features is None else bytes_to_copy(setup.features, run)
        foretold = build_forecaster(setup, group).forecast(run.path, copied)
        if not group.is_first:
            return None
        if not foretold.fits_on_disk:
            raise UserError(
                str(foretold), "make room, or lower training.keep_last", EXIT_GATE_FAILED
            )
        return str(foretold)


def _open(config: Config, config_path: Path | None) -> tuple[Config, DataFolder, RunFolder]:
    data, run = DataFolder(config.data_path), RunFolder(config.run_dir)
    beside = DataFolder(config_path.parent / config.data_path) if config_path else data
    if config_path and not data.manifest_path.is_file() and beside.manifest_path.is_file():
        raise UserError(
            f"{data.path.absolute()}: no prepared data here; relative paths begin at the working "
            f"directory, and {beside.path} has some",
            f"cd {config_path.parent} and run: mtrain train {config_path.name}",
        )
    config = data.as_prepared(config)
    data.check_belongs(config)
    run.check_belongs(config)
    return config, data, run
