"""The two folders: what is refused as no data folder, and what a run may change when it goes on."""

import json
from pathlib import Path

import pytest

from mtrain.config import Config, load_config
from mtrain.config.compare import CHANGEABLE_ON_RESUME, changed_keys
from mtrain.data.folders import DataFolder, RunFolder, hold
from mtrain.data.held_out_text import read_held_out
from mtrain.data.manifest import FORMAT
from mtrain.errors import UserError

SMALLEST = """\
run_dir: run
data:
  source_lang: en
  target_lang: de
  train: [{source: a.en, target: a.de}]
  valid: [{source: b.en, target: b.de}]
"""
# another value for each: of a section, for one of its keys
MAY_CHANGE = {
    "run_dir": "elsewhere",
    "data_dir": "data",
    "device": "cpu",
    "export_to": "[ctranslate2]",
    "decoding.engine": "ctranslate2",
    "decoding.precision": "bf16",
    "decoding.source_lang": "fr",
    "decoding.target_lang": "fr",
    "decoding.method": "sample",
    "decoding.beam_size": "2",
    "decoding.length_penalty": "0.5",
    "decoding.length_norm": "gnmt",
    "decoding.coverage_penalty": "0.2",
    "decoding.repetition_guard": "true",
    "decoding.n_best": "2",
    "decoding.max_length_ratio": "3",
    "decoding.temperature": "0.5",
    "decoding.top_k": "7",
    "decoding.top_p": "0.5",
    "decoding.batch_tokens": "7",
    "decoding.buffer_lines": "7",
    "decoding.context_tokens": "7",
    "decoding.context_overlap": "7",
    "training.compile_layers": "false",
    "training.gradient_reduction": "ordered",
    "training.sharding": "full",
    "training.max_updates": "7",
    "training.max_minutes": "7",
    "training.valid_every": "7",
    "training.save_every": "7",
    "training.valid_metric": "loss",
    "training.patience": "7",
    "training.keep_best": "7",
    "training.keep_last": "7",
    "training.average_checkpoints": "2",
    "training.log_every": "7",
    "training.tensorboard": "true",
    "data.watch": "[{path: x.tsv}]",
    "data.test": "[{path: x.tsv}]",
}
MAY_NOT_CHANGE = {
    "seed": "7",
    "data.source_lang": "fr",
    "data.train.0.source": "c.en",
    "data.train.0.alignments": "a.align",
    "data.train.0.documents": "empty_lines",
    "data.valid": "[{path: x.tsv}]",
    "data.filters.max_tokens": "7",
    "data.sampling_temperature": "2",
    "data.protect": "[tags]",
    "data.train.0.weight": "2",
    "tokenizer.vocab_size": "700",
    "tokenizer.path": "x.model",
    "tokenizer.source_prefix": "x",
    "tokenizer.target_prefix": "x",
    "tokenizer.symbols": "[<x>]",
    "model.dropout": "0.7",
    "model.d_model": "512",
    "model.features": "{run: bert}",
    "training.batch_tokens": "7",
    "training.accumulate": "7",
    "training.optimizer": "muon",
    "training.learning_rate": "7",
    "training.warmup_updates": "7",
    "training.schedule": "cosine",
    "training.label_smoothing": "0.7",
    "training.masked_share": "0.2",
    "training.consistency": "{method: r_drop}",
    "training.mask_whole_words": "true",
    "training.unfreeze": "{'encoder*': 10}",
    "training.subword_sampling": "0.1",
    "training.precision": "bf16",
    "training.ema_decay": "0.7",
    "training.freeze": "['encoder*']",
    "training.learning_rate_scale": "{'encoder*': 0.1}",
    "distillation": "{teachers: [t]}",
    "distillation.weight": "0.5",
    "decoding.alignment_layer": "1",
    "decoding.alignment_head": "1",
}


def load(folder: Path, *overrides: str) -> Config:
    (folder / "config.yaml").write_text(SMALLEST)
    return load_config(folder / "config.yaml", overrides)


def test_each_changeable_key_is_tried_below() -> None:
    assert set(MAY_CHANGE) == set(CHANGEABLE_ON_RESUME)


@pytest.mark.parametrize(("key", "value"), (MAY_CHANGE | MAY_NOT_CHANGE).items())
def test_a_run_goes_on_with_other_limits_but_learns_as_it_began(
    key: str, value: str, tmp_path: Path
) -> None:
    old, new = load(tmp_path), load(tmp_path, f"{key}={value}")
    assert changed_keys(old, new, ())  # the value is another one
    changed = changed_keys(old, new, CHANGEABLE_ON_RESUME)
    assert bool(changed) is (key in MAY_NOT_CHANGE)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "no prepared data here"),
        ("", "manifest.json: damaged\nremove the folder"),
        ('{"format": 1', "manifest.json: damaged\nremove the folder"),
        ("{}", "prepared by another version of mtrain"),
        (json.dumps({"format": FORMAT + 1}), "prepared by another version of mtrain"),
    ],
    ids=["missing", "empty", "cut short", "without a format", "of another format"],
)
def test_a_folder_without_a_whole_manifest_is_refused(
    content: str | None, error: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError) as caught:
        DataFolder(tmp_path).manifest()
    assert str(tmp_path) in str(caught.value)
    assert error in str(caught.value)


def write_set(folder: Path, num_sources: int, num_references: int) -> None:
    (folder / "mine.source").write_bytes(b"a\n" * num_sources)
    (folder / "mine.target").write_bytes(b"b\n" * num_references)


def test_held_out_text_out_of_step_is_refused_with_both_counts(tmp_path: Path) -> None:
    write_set(tmp_path, 3, 3)
    assert read_held_out(tmp_path, "mine").references == [b"b"] * 3
    write_set(tmp_path, 3, 4)
    with pytest.raises(UserError) as caught:
        read_held_out(tmp_path, "mine")
    assert f"{tmp_path}/mine.source has 3 lines but" in str(caught.value)
    assert f"{tmp_path}/mine.target has 4" in str(caught.value)


@pytest.mark.parametrize("name", ["tokenizer/my.model", "test/my.en", "metrics.jsonl",
                                  "checkpoints/update-best/weights", "data.json", "valid.json",
                                  "report.html"])  # fmt: skip
def test_a_run_dir_with_the_users_own_files_where_ours_would_go_is_refused(
    name: str, tmp_path: Path
) -> None:
    config, run = load(tmp_path), RunFolder(tmp_path / "run")
    run.check_belongs(config)  # there is none yet
    (run.path / "notes").mkdir(parents=True)
    (run.path / "test").mkdir()
    run.check_belongs(config)  # nothing in our way
    path = run.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("precious")
    with pytest.raises(UserError, match=name.partition("/")[0]):
        run.check_belongs(config)


def test_a_configuration_that_train_has_not_written_is_no_run(tmp_path: Path) -> None:
    config = load(tmp_path)
    with pytest.raises(UserError, match="not written by `mtrain train`"):
        RunFolder(tmp_path).check_belongs(config)


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / ".lock"
    with hold(path, "taken"):
        with pytest.raises(UserError, match="taken"), hold(path, "taken"):
            pass
        with hold(tmp_path / "other", "taken"):
            pass
    with hold(path, "taken"):
        pass
