"""Starting from another run: what is copied, row by row, and what is said of the rest."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from torch import Tensor

from mtrain.commands.prepare import prepare
from mtrain.config import Config
from mtrain.data.folders import DataFolder
from mtrain.errors import UserError
from mtrain.inference.load import load
from mtrain.models import Model
from mtrain.text.tokenizer import TokenizerPair
from mtrain.training import initial
from mtrain.training.initial import TABLES, part_of
from mtrain.training.optimizer import optimizer_tensors
from mtrain.training.validation import Validation
from tests.contract.models import MODELS, new_model
from tests.in_process import (
    SMALL_MODEL,
    learn,
    open_run,
    open_saver,
    open_setup,
    save_run,
    small_config,
)
from tests.unit.training.test_trainer import events, train

SEPARATE = {"vocab_size": 300, "shared": False}
Capture = pytest.CaptureFixture[str]
SYMBOLS = ["<2xx>", "<2yy>"]


@pytest.fixture(scope="module")
def tasks(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small task by vocabulary: the base's, that with symbols, one of its own a side."""
    folders = {"same": small_task}
    for name in ("symbols", "separate"):
        folders[name] = tmp_path_factory.mktemp(name)
        for file in small_task.glob("*.*"):
            shutil.copy(file, folders[name])
        prepare(config_on(folders, name, folders[name] / "run"))
    return folders


def config_on(
    tasks: Mapping[str, Path],
    name: str,
    run: Path,
    model: dict[str, Any] | None = None,
    **keys: Any,
) -> Config:
    """Return a configuration on one of the tasks."""
    given = tasks["same"] / "data" / "tokenizer" / "shared.model"
    tokenizer = {"same": {"vocab_size": 320}, "symbols": {"path": given, "symbols": SYMBOLS},
                 "separate": SEPARATE}[name]  # fmt: skip
    model = model or SMALL_MODEL
    return small_config(tasks[name], run, keys.pop("training", None), model,
                        tokenizer=tokenizer, **keys)  # fmt: skip


def save_base(config: Config) -> dict[str, Tensor]:
    """Write a run that has learnt a little; return its weights under every name."""
    setup, run = open_run(config)
    learn(setup, 1)
    save_run(setup, run)
    return weights(setup.state.model)


def weights(model: Model) -> dict[str, Tensor]:
    named = model.named_parameters(remove_duplicate=False)
    return {name: parameter.detach().clone() for name, parameter in named}


def start(config: Config, capsys: Capture) -> tuple[dict[str, Tensor], str]:
    """Return the weights that a run begins with, and what was said of them."""
    capsys.readouterr()
    setup = open_setup(config)
    return weights(setup.state.model), capsys.readouterr().err


def fresh(config: Config) -> dict[str, Tensor]:
    """Return the weights that the run would begin with by itself."""
    model = config.model.model_copy(update={"init_from": None})
    return weights(open_setup(config.model_copy(update={"model": model})).state.model)


@pytest.mark.parametrize("name", MODELS)
def test_with_the_same_settings_everything_is_copied(
    name: str, tasks: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    base = save_base(config_on(tasks, "same", tmp_path / "base", MODELS[name]))
    model = MODELS[name] | {"init_from": tmp_path / "base"}
    config = config_on(tasks, "same", tmp_path / "run", model, seed=2)
    found, said = start(config, capsys)
    assert all(torch.equal(tensor, base[key]) for key, tensor in found.items())
    assert f"initialised from {tmp_path}/base (update 1): copied 100.0% of " in said
    assert (
        "; newly initialised: nothing; left out: nothing; the optimiser and the schedule " in said
    )
    setup = open_setup(config)
    assert setup.state.position.update == 0
    assert not optimizer_tensors(setup.state.model, setup.state.optimizers)


def test_the_best_checkpoint_is_copied_and_gives_the_same_dev_loss(
    tasks: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    base = config_on(tasks, "same", tmp_path / "base")
    train(base)
    best = max(events(base, "valid"), key=lambda event: event["bleu"])
    training = {"max_updates": 1, "learning_rate_scale": {"*": 0.0}}
    model = SMALL_MODEL | {"init_from": tmp_path / "base"}
    tuned = config_on(tasks, "same", tmp_path / "run", model, training=training, seed=3)
    capsys.readouterr()
    train(tuned)
    assert f"(update {best['update']}, dev BLEU {best['bleu']:.2f})" in capsys.readouterr().err
    (first,) = events(tuned, "valid")
    assert {key: first[key] for key in ("loss", "bleu", "chrf")} == {
        key: best[key] for key in ("loss", "bleu", "chrf")}  # fmt: skip


def test_an_older_checkpoint_is_copied_if_it_is_better(
    tasks: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    setup, run = open_run(config_on(tasks, "same", tmp_path / "base"))
    position = setup.state.position
    saved = []
    for until, bleu in ((1, 40.0), (2, 50.0), (3, 45.0)):
        learn(setup, until)
        position.validated_update = until
        save_run(setup, run, Validation(1.0, bleu, 60.0))
        saved.append(weights(setup.state.model))
    model = SMALL_MODEL | {"init_from": tmp_path / "base"}
    found, said = start(config_on(tasks, "same", tmp_path / "run", model), capsys)
    assert "base (update 2, dev BLEU 50.00)" in said
    assert [all(torch.equal(tensor, then[name]) for name, tensor in found.items())
            for then in saved] == [False, True, False]  # fmt: skip


@pytest.mark.parametrize("name", ["transformer-pre-learned-decoder", "decoder-only", "rnn-gnmt"])
@pytest.mark.parametrize("part", ["encoder", "decoder", "embeddings"])
def test_only_the_parts_that_are_named_are_copied(
    name: str, part: str, tasks: dict[str, Path], tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    base = save_base(config_on(tasks, "same", tmp_path / "base", MODELS[name]))
    monkeypatch.setattr(initial, "MOST_NAMED", 1000)
    model = MODELS[name] | {"init_from": {"run": tmp_path / "base", "parts": [part]}}
    config = config_on(tasks, "same", tmp_path / "run", model, seed=2)
    if (name, part) == ("decoder-only", "encoder"):
        with pytest.raises(UserError, match=r"init_from\.parts: encoder: the model has no such"):
            open_setup(config)
        return
    found, said = start(config, capsys)
    own, built = fresh(config), open_setup(config).state.model
    parts = {key: part_of(built, key) for key in found}
    for key, tensor in found.items():
        assert torch.equal(tensor, (base if parts[key] == part else own)[key]), key
    assert {"embeddings", "decoder"} <= set(parts.values())
    others = {key for key, _ in built.named_parameters() if parts[key] != part}
    listed = re.findall(r"newly initialised: (.*); left out", said)[0]
    assert all(re.sub(r"\.\d+\..*", "", key).split(".")[0] in listed for key in others)
    assert "copied 100.0%" not in said


def test_each_parameter_belongs_to_the_part_that_its_name_says() -> None:
    expected = {"encoder": "encoder", "encoder_norm": "encoder", "source_positions": "encoder",
                "source_embedding": "embeddings", "target_embedding": "embeddings",
                "output": "embeddings"}  # fmt: skip
    for name in MODELS:
        model = new_model(name)
        for key, _ in model.named_parameters(remove_duplicate=False):
            assert part_of(model, key) == expected.get(key.split(".")[0], "decoder")


def pieces(folder: Path) -> dict[str, dict[str, int]]:
    """Return the row of each piece, by side."""
    pair = TokenizerPair.load(folder / "data" / "tokenizer")
    return {side: {piece: row for row, piece in enumerate(each.pieces(range(each.vocab_size)))}
            for side, each in (("source", pair.source), ("target", pair.target))}  # fmt: skip


TIES = [
    ("same", "all", "symbols", "all"),
    ("same", "all", "separate", "none"),
    ("same", "none", "symbols", "decoder"),
    ("separate", "none", "same", "all"),
    ("separate", "decoder", "same", "none"),
]


@pytest.mark.parametrize("output_bias", [False, True])
@pytest.mark.parametrize(("old_task", "old_tie", "new_task", "new_tie"), TIES)
def test_rows_are_matched_piece_by_piece_whatever_is_tied(
    old_task: str, old_tie: str, new_task: str, new_tie: str, output_bias: bool,
    tasks: dict[str, Path], tmp_path: Path, capsys: Capture,
) -> None:  # fmt: skip
    settings = SMALL_MODEL | {"output_bias": output_bias}
    old_model = settings | {"tie_embeddings": old_tie}
    base = save_base(config_on(tasks, old_task, tmp_path / "base", old_model))
    model = settings | {"tie_embeddings": new_tie, "init_from": tmp_path / "base"}
    config = config_on(tasks, new_task, tmp_path / "run", model, seed=2)
    (found, said), own = start(config, capsys), fresh(config)
    old, new = pieces(tasks[old_task]), pieces(tasks[new_task])
    # the tables, in the order in which they may fill a row of a tensor
    order = ["target_embedding.weight", "output.weight", "source_embedding.weight"]
    groups = {"all": [order], "decoder": [order[:2], order[2:]], "none": [[n] for n in order]}
    num_new = 0
    for group in [*groups[new_tie], *([["output.bias"]] if output_bias else [])]:
        for piece, row in new[TABLES[group[0]]].items():
            sources = [base[name][old[TABLES[name]][piece]] for name in group
                       if piece in old[TABLES[name]]]  # fmt: skip
            expected = sources[0] if sources else own[group[0]][row]
            num_new += not sources
            assert all(torch.equal(found[name][row], expected) for name in group), piece
    others = {name for name in found if name not in TABLES}
    assert all(torch.equal(found[name], base[name]) for name in others)
    if new_task == "symbols":
        assert num_new == 2 * (len(groups[new_tie]) + output_bias)
        assert "source_embedding.weight (2 of 322 rows, " in said


def test_layers_that_one_of_the_two_lacks_are_told(
    tasks: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    deep, wide = ({"encoder_layers": e, "decoder_layers": d} for e, d in ((1, 3), (3, 1)))
    base = save_base(config_on(tasks, "same", tmp_path / "base", SMALL_MODEL | deep))
    model = SMALL_MODEL | wide | {"init_from": tmp_path / "base"}
    config = config_on(tasks, "same", tmp_path / "run", model, seed=2)
    (found, said), own = start(config, capsys), fresh(config)
    for name, tensor in found.items():
        assert torch.equal(tensor, (base if name in base else own)[name]), name
    assert re.search(
        r"newly initialised: encoder\.1\.\* \(\d+\.\d%\), encoder\.2\.\* \(\d+\.\d%\); "
        r"left out: decoder\.1\.\* \(\d+\.\d%\), decoder\.2\.\* \(\d+\.\d%\);", said
    )  # fmt: skip
    copied = sum(found[n].numel() for n, _ in open_setup(config).state.model.named_parameters()
                 if n in base)  # fmt: skip
    total = sum(p.numel() for p in open_setup(config).state.model.parameters())
    assert f"copied {copied / total:.1%} of {total:,} parameters" in said


def test_tensors_of_other_shapes_are_named_with_both(
    tasks: dict[str, Path], tmp_path: Path
) -> None:
    save_base(config_on(tasks, "same", tmp_path / "base"))
    model = SMALL_MODEL | {"ffn_dim": 48, "init_from": tmp_path / "base"}
    with pytest.raises(UserError) as caught:
        open_setup(config_on(tasks, "same", tmp_path / "run", model))
    assert "encoder.0.feed_forward.inner.weight: shape (32, 16) in" in str(caught.value)
    assert "base, (48, 16) here" in str(caught.value)
    assert "embedding" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_that_shares_no_piece_is_refused(
    tasks: dict[str, Path], tmp_path: Path
) -> None:
    """But for marks, bytes and the blank, which say nothing of a language."""
    greek = tmp_path / "greek.model"
    with greek.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["αβγδ εζηθ", "ικλμ νξοπ"] * 20), model_writer=file,
            vocab_size=290, byte_fallback=True, pad_id=0, unk_id=1, bos_id=2, eos_id=3,
            minloglevel=2, normalization_rule_name="identity", hard_vocab_limit=False,
        )  # fmt: skip
    base = tmp_path / "base"
    save_base(config_on(tasks, "same", base))
    shared = base / "tokenizer" / "shared.model"
    folder = tmp_path / "greek"
    folder.mkdir()
    for file in tasks["same"].glob("*.*"):
        shutil.copy(file, folder)
    model = SMALL_MODEL | {"init_from": base}
    tokenizer = {"path": {"source": shared, "target": greek}}
    config = small_config(folder, tmp_path / "run", None, model, tokenizer=tokenizer)
    prepare(config)
    with pytest.raises(
        UserError, match=r"the target vocabulary shares no piece with that of .*base"
    ):
        open_setup(config)
    assert not (tmp_path / "run").exists()
    without = {"run": base, "parts": ["encoder", "decoder"]}
    open_setup(small_config(folder, tmp_path / "run", None, model | {"init_from": without},
                            tokenizer=tokenizer))  # fmt: skip


def test_a_run_that_has_begun_needs_its_base_no_more(
    tasks: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    save_base(config_on(tasks, "same", tmp_path / "base"))
    model = SMALL_MODEL | {"init_from": tmp_path / "base"}
    config = config_on(tasks, "same", tmp_path / "run", model, seed=2)
    whole, _ = open_run(config)
    learn(whole, 6)
    setup, run = open_run(config)
    learn(setup, 3)
    save_run(setup, run)
    shutil.rmtree(tmp_path / "base")
    capsys.readouterr()
    setup, run = open_run(config)
    open_saver(setup, run).resume()
    assert "initialised" not in capsys.readouterr().err
    learn(setup, 6)
    for name, tensor in weights(whole.state.model).items():
        assert torch.equal(tensor, weights(setup.state.model)[name])
    shutil.rmtree(run.checkpoints)
    with pytest.raises(UserError, match=r"model\.init_from: .*base: there is no such run folder"):
        open_setup(config)


def test_a_damaged_base_is_named(tasks: dict[str, Path], tmp_path: Path) -> None:
    save_base(config_on(tasks, "same", tmp_path / "base"))
    model = SMALL_MODEL | {"init_from": tmp_path / "base"}
    config = config_on(tasks, "same", tmp_path / "run", model)
    (path,) = (tmp_path / "base" / "checkpoints").glob("*/model.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.init_from: checkpoint .* is damaged"):
        open_setup(config)
    shutil.rmtree(tmp_path / "base" / "checkpoints")
    with pytest.raises(UserError, match=r"model\.init_from: .*base: there is no checkpoint yet"):
        open_setup(config)
    assert DataFolder(config.data_path).manifest_path.is_file()


BERT_MODEL = {**SMALL_MODEL, "type": "bert", "encoder_layers": 2, "max_positions": 80}
del BERT_MODEL["decoder_layers"]
MASKED = {"objective": "masked_lm", "batch_tokens": 512}


@pytest.fixture(scope="module")
def bert(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that has learnt a little, from the small task's pairs."""
    folder = tmp_path_factory.mktemp("bert")
    for file in small_task.glob("*.*"):
        shutil.copy(file, folder)
    config = small_config(folder, folder / "base", MASKED, BERT_MODEL)
    prepare(config)
    save_base(config)
    return folder


def translation_from(bert: Path, run: Path, parts: list[str], **model: Any) -> Config:
    """Return the configuration of a translation run that starts from the BERT."""
    tokenizer = {"path": bert / "base" / "tokenizer" / "shared.model"}
    shared = {key: value for key, value in BERT_MODEL.items() if key != "type"}
    shared |= {"activation": "gelu", "norm": "post", "positions": "learned"}
    shared |= {"embedding_norm": True, "decoder_layers": 2, "output_bias": True}
    shared |= {"init_from": {"run": bert / "base", "parts": parts}}
    config = small_config(bert, run, None, shared | model, tokenizer=tokenizer, data_dir=run / "d")
    prepare(config)
    return config


def test_from_a_bert_both_sides_start_but_what_attends_to_the_source(
    bert: Path, tmp_path: Path, capsys: Capture
) -> None:
    config = translation_from(bert, tmp_path / "run", ["encoder", "decoder", "embeddings"])
    found, said = start(config, capsys)
    new = fresh(config)
    old = weights(load(bert / "base", None, ("device=cpu",)).model)
    assert "newly initialised: decoder.0.*" in said
    for name, tensor in found.items():
        part = name.replace("target_", "source_").replace("decoder", "encoder")
        part = part.replace("residuals.2", "residuals.1") if name.startswith("decoder") else part
        if "cross_attention" in name or name.startswith(("decoder.0.residuals.1",
                                                         "decoder.1.residuals.1")):  # fmt: skip
            assert torch.equal(tensor, new[name]), name
        else:
            assert torch.equal(tensor, old[part]), name


def test_from_a_bert_the_encoder_alone_starts(bert: Path, tmp_path: Path, capsys: Capture) -> None:
    config = translation_from(bert, tmp_path / "run", ["encoder"], decoder_layers=1)
    found, _ = start(config, capsys)
    new, old = fresh(config), weights(load(bert / "base", None, ("device=cpu",)).model)
    for name, tensor in found.items():
        is_encoder = name.startswith(("encoder", "source_combined", "source_positions"))
        assert torch.equal(tensor, (old if is_encoder else new)[name]), name


def test_a_bert_of_another_width_is_refused(bert: Path, tmp_path: Path) -> None:
    config = translation_from(bert, tmp_path / "run", ["encoder"], d_model=32)
    with pytest.raises(UserError, match=r"shape \(16\) in .*, \(32\) here|of different shapes"):
        open_setup(config)


@pytest.mark.parametrize(
    ("old", "new", "origins"),
    [
        ({"encoder_layers": 6, "decoder_layers": 2}, {"encoder_layers": 3, "decoder_layers": 2},
         {"encoder": [0, 2, 5], "decoder": [0, 1]}),
        ({"encoder_layers": 1, "decoder_layers": 4}, {"encoder_layers": 1, "decoder_layers": 2},
         {"encoder": [0], "decoder": [0, 3]}),
        ({"type": "decoder_only", "decoder_layers": 4},
         {"type": "decoder_only", "decoder_layers": 2}, {"stack": [0, 3]}),
    ],
    ids=["encoder", "decoder", "decoder-only"],
)  # fmt: skip
def test_every_second_layer_is_copied_bit_for_bit(
    old: dict[str, Any], new: dict[str, Any], origins: dict[str, list[int]],
    tasks: dict[str, Path], tmp_path: Path, capsys: Capture,
) -> None:  # fmt: skip
    small = {key: value for key, value in SMALL_MODEL.items()
             if key != "encoder_layers" or key in old}  # fmt: skip
    base = save_base(config_on(tasks, "same", tmp_path / "base", small | old))
    model = small | new | {"init_from": {"run": tmp_path / "base", "layers": "every_second"}}
    found, said = start(config_on(tasks, "same", tmp_path / "run", model, seed=2), capsys)
    assert "copied 100.0%" in said
    for name, tensor in found.items():
        stack, _, rest = name.partition(".")
        if stack in origins:
            number, _, rest = rest.partition(".")
            name = f"{stack}.{origins[stack][int(number)]}.{rest}"
        assert torch.equal(tensor, base[name]), name
    for stack, kept in origins.items():
        for number in {int(name.split(".")[1]) for name in base if name.startswith(f"{stack}.")}:
            assert (f"{stack}.{number}.* (" in said.partition("left out")[2]) is (
                number not in kept
            )


def test_only_the_layers_of_the_parts_that_are_named_are_halved(
    tasks: dict[str, Path], tmp_path: Path, capsys: Capture
) -> None:
    deep = SMALL_MODEL | {"encoder_layers": 4, "decoder_layers": 3}
    base = save_base(config_on(tasks, "same", tmp_path / "base", deep))
    start_from: dict[str, Any] = {"run": tmp_path / "base", "layers": "every_second"}
    model = SMALL_MODEL | {"encoder_layers": 2, "decoder_layers": 2, "init_from": start_from}
    config = config_on(tasks, "same", tmp_path / "run", model)
    with pytest.raises(UserError, match="decoder_layers is 2, neither half of the 3 layers of"):
        open_setup(config)
    model |= {"init_from": start_from | {"parts": ["encoder"]}}
    config = config_on(tasks, "same", tmp_path / "run", model, seed=2)
    (found, _), own = start(config, capsys), fresh(config)
    for name, tensor in found.items():
        if name.startswith("encoder."):
            assert torch.equal(tensor, base[name.replace("encoder.1.", "encoder.3.")]), name
        elif not name.startswith("encoder"):
            assert torch.equal(tensor, own[name]), name


def test_a_bert_and_a_decoder_start_from_every_second_layer_of_a_bert(
    bert: Path, tmp_path: Path, capsys: Capture
) -> None:
    old = weights(load(bert / "base", None, ("device=cpu",)).model)
    start_from = {"init_from": {"run": bert / "base", "layers": "every_second"}}
    model = BERT_MODEL | {"encoder_layers": 1} | start_from
    found, said = start(small_config(bert, tmp_path / "run", MASKED, model), capsys)
    assert "copied 100.0%" in said
    assert all(torch.equal(tensor, old[name]) for name, tensor in found.items())
    shallow = translation_from(bert, tmp_path / "two", [], decoder_layers=1, **start_from)
    found, _ = start(shallow, capsys)
    for name in ("encoder.1.feed_forward.inner.weight", "decoder.0.feed_forward.inner.weight"):
        assert torch.equal(found[name], old[name.replace("decoder", "encoder")])


@pytest.mark.parametrize("num_positions", [100, 40])
def test_learned_positions_repeat_where_there_are_more_and_end_earlier_where_there_are_fewer(
    num_positions: int, bert: Path, tmp_path: Path, capsys: Capture
) -> None:
    config = translation_from(
        bert, tmp_path / "run", ["encoder", "decoder", "embeddings"], max_positions=num_positions
    )
    found, said = start(config, capsys)
    old = weights(load(bert / "base", None, ("device=cpu",)).model)["source_positions.weight"]
    expected = torch.cat([old, old])[:num_positions]
    assert torch.equal(found["source_positions.weight"], expected)
    assert torch.equal(found["target_positions.weight"], expected)
    repeats = f"the {len(old)} learned positions repeat up to {num_positions};"
    assert (repeats in said) == (num_positions > len(old))
