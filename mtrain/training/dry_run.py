"""Builds the dry run of a training: `train --check`."""

from mtrain.config.model import EncoderSection, StackSection
from mtrain.data.makers.masked import MaskedMaker
from mtrain.distributed.group import ProcessGroup
from mtrain.nn.block_sparse import describe_pattern, new_pattern
from mtrain.training.build import Setup
from mtrain.training.forecast import Forecaster


def build_forecaster(setup: Setup, group: ProcessGroup) -> Forecaster:
    """Return a forecaster, which runs a few updates and extrapolates."""
    return Forecaster(
        setup.config.training,
        setup.maker,
        setup.maker.plan(setup.mixtures[0].rows(setup.config.seed, 0), setup.config.seed, 0),
        setup.state,
        setup.updater,
        setup.validator,
        setup.updates,
        group,
        setup.precision.device,
        _about(setup),
    )


def _about(setup: Setup) -> dict[str, str]:
    """Return by title what a dry run says of the model and the longest texts."""
    model, found = setup.config.model, dict[str, str]()
    if not isinstance(model, StackSection):
        return found
    lengths = ([setup.maker.longest] if isinstance(setup.maker, MaskedMaker) else
               [int(side.lengths.max(initial=0)) + 1 for side in setup.store.sides])  # fmt: skip
    if isinstance(model, EncoderSection) and (
        pattern := new_pattern(model.encoder_attention.pattern)
    ):
        device_type, dropout = setup.precision.device.type, model.attention_dropout
        found["attention"] = describe_pattern(pattern, lengths[0], device_type, dropout,
                                              model.d_model // model.num_heads)  # fmt: skip
    if (longest := max(lengths)) < model.max_positions:
        how = "not learnt" if model.positions == "learned" else f"extrapolated ({model.positions})"
        found["positions"] = (f"{longest + 1:,} to {model.max_positions:,} are {how}: the longest "
                              f"training text has {longest:,} tokens")  # fmt: skip
    return found
