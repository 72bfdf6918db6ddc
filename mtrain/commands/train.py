"""`mtrain train`: from prepared data to checkpoints; run again, it goes on where it stopped."""

from mtrain.config import Config
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.errors import EXIT_GATE_FAILED, UserError
from mtrain.training.checkpoint import list_checkpoints, order_by_quality
from mtrain.training.distributed import ProcessGroup
from mtrain.training.forecast import forecast
from mtrain.training.log import learning_curve, read_metrics
from mtrain.training.parts import Parts, build_parts
from mtrain.training.trainer import Trainer


def train(config: Config) -> str:
    """Train to the end and return the learning curve; of several processes the first does."""
    group = ProcessGroup()
    try:
        return _train(config, group)
    finally:
        group.close()


def check(config: Config) -> str:
    """Return the forecast of a dry run, which writes nothing."""
    _, run, parts = _open(config, ProcessGroup())
    foretold = forecast(parts, run.path)
    if not foretold.fits_on_disk:
        raise UserError(str(foretold), "make room, or lower training.keep_last", EXIT_GATE_FAILED)
    return str(foretold)


def _open(config: Config, group: ProcessGroup) -> tuple[DataFolder, RunFolder, Parts]:
    data, run = DataFolder(config.data_path), RunFolder(config.run_dir)
    data.check_belongs(config)
    run.check_belongs(config)
    return data, run, build_parts(config, data, group)


def _train(config: Config, group: ProcessGroup) -> str:
    data, run, parts = _open(config, group)
    if not group.is_first:
        Trainer(parts, run).run()
        return ""
    with run.lock():
        run.begin(config, data)
        Trainer(parts, run).run()
    metric = config.training.valid_metric
    best = order_by_quality(list_checkpoints(run.checkpoints), metric)[-1]
    return f"{learning_curve(read_metrics(run.metrics_path))}\nbest by dev {metric}: {best}"
