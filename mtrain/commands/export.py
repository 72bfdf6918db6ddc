"""`mtrain export`: write a run's model for another program, and check it there."""

from pathlib import Path

from mtrain.checkpoints.format import read_state
from mtrain.commands.parity import SAMPLE_LINES, check_masked_parity, check_parity
from mtrain.commands.score_tests import own_tests, score_tests
from mtrain.config import Config
from mtrain.config.purpose import check_translates
from mtrain.console import say, warn
from mtrain.data.folders import DataFolder, OpenedRun, RunFolder
from mtrain.data.held_out_text import read_held_out
from mtrain.errors import UserError
from mtrain.exchange import exchange_format
from mtrain.exchange.base import export
from mtrain.exchange.card import Facts, TestScores, write_card
from mtrain.inference.load import LoadedRun, load_run
from mtrain.text.protection import PIECES


def export_run(
    opened: OpenedRun,
    format_name: str,
    weights: str,
    output_dir: Path,
    checkpoint_name: str | None,
) -> None:
    """Write the model into a new folder, if another program translates a sample as mtrain does."""
    if output_dir.exists():
        raise UserError(f"{output_dir}: this already exists", "name a folder that does not")
    if not output_dir.absolute().parent.is_dir():
        raise UserError(f"{output_dir.absolute().parent}: there is no such folder")
    model_section = opened[1].model
    if model_section.export_limits.get(format_name) == f"model.type: {model_section.type}":
        check_translates(opened[1])
    target = exchange_format(format_name, f"export --to {format_name}", weights)
    run, config = opened
    lines = _sample_lines(run, config)
    loaded = load_run(run, config, checkpoint_name)
    is_bert = config.model.type == "bert"
    model = loaded.masked_model if is_bert else loaded.translation_model
    tokenizers = loaded.text_tokenizers if is_bert else loaded.prefixed_tokenizers
    if not is_bert:
        _warn_of_search(config)

    def check(folder: Path) -> None:
        if is_bert:
            is_checked = check_masked_parity(
                loaded, lines, lambda sample: target.replay_masked(folder, sample)
            )
        else:
            is_checked = check_parity(
                loaded,
                lines,
                lambda sample: target.replay(folder, sample, config, tokenizers),
                target.name,
                target.weights,
            )
        if target.has_card:
            write_card(folder, output_dir.name, _facts(loaded, run, is_checked))

    export(target, output_dir, model, config, tokenizers, check)
    say(f"{output_dir}: written from {loaded.checkpoint}")
    source, target_side = (side.pieces(side.prefix) for side in (tokenizers.source,
                                                                 tokenizers.target))  # fmt: skip
    if (source or target_side) and not is_bert:
        say(
            f"who translates with it must begin the source with {' '.join(source) or 'nothing'} "
            f"and force {' '.join(target_side) or 'nothing'} as the target's prefix"
        )
    if config.data.protect:
        say(
            f"who translates with it must do what data.protect does here: put {PIECES[0]} to "
            f"{PIECES[-1]} in place of protected spans, and put the spans back"
        )
    if target.has_card:
        say(f"to publish it: hf upload ORGANISATION/{output_dir.name} {output_dir}")


def _facts(loaded: LoadedRun, run: RunFolder, is_checked: bool) -> Facts:
    config = loaded.config
    data = DataFolder(config.data_path)
    is_bert = config.model.type == "bert"
    scored = (
        [] if is_bert else score_tests(loaded.translator, own_tests(run.test_sets(config), config))
    )
    state = read_state(loaded.checkpoint)
    return Facts(
        config,
        sum(parameter.numel() for parameter in loaded.model.parameters()),
        state["position"]["update"],
        data.manifest() if data.manifest_path.is_file() else {},
        [TestScores(test.name, test.sentences, test.scores) for test in scored],
        is_checked,
        state.get("imported_from"),
        state.get("validation"),
    )


def _warn_of_search(config: Config) -> None:
    decoding = config.decoding
    ours_alone = {
        "length_norm: gnmt": decoding.length_norm == "gnmt",
        "coverage_penalty": decoding.coverage_penalty > 0,
        "repetition_guard": decoding.repetition_guard,
    }
    left_out = [f"decoding.{name}" for name, is_used in ours_alone.items() if is_used]
    if left_out:
        warn(f"other programs have no {', '.join(left_out)}: it is left out, and in the check too")


def _sample_lines(run: RunFolder, config: Config) -> list[bytes]:
    """Return lines of a test set, else of the valid set of the prepared data, else none."""
    tests = run.test_sets(config)
    if tests:
        return tests[0].sources[:SAMPLE_LINES]
    text = DataFolder(config.data_path).path / "text"
    if (text / "valid.source").is_file():
        return read_held_out(text, "valid").sources[:SAMPLE_LINES]
    return []
