"""What `init` advises: the measured points, what grows with text and time, and that it loads."""

from dataclasses import replace
from typing import Any

import pytest

from mtrain.config.advice import MIN_SOURCES, Machine, Task, advise
from mtrain.config.draft import WIDTH, draft
from mtrain.config.load import check_text, dump_value
from mtrain.config.run import Config
from mtrain.config.yaml_lines import parse_tree
from mtrain.errors import UserError

CORES = Machine(2, "bf16", "measured")
GPU = Machine(16, "bf16", "it has it", "H100")
MULTI30K = Task(28_000, 29_000, (15.5, 14.3), 25, CORES)
MILLIONS = Task(4_000_000, 4_500_000, (30.0, 30.0), 600, GPU)
TASKS = [
    replace(MULTI30K, num_sources=sources, num_pairs=pairs, minutes=minutes, machine=machine)
    for sources, pairs in ((MIN_SOURCES, 1000), (28_000, 29_000), (10**6, 10**7), (10**8, 10**9))
    for minutes in (0.01, 1, 25, 60, 10_000)
    for machine in (CORES, Machine(64, "fp32", ""), GPU)
]  # fmt: skip


def values(task: Task) -> dict[str, Any]:
    """Return the values by `section.key`."""
    return {f"{section}.{choice.key}": choice.value
            for section, choices in advise(task).items() for choice in choices}  # fmt: skip


def written(task: Task) -> str:
    advice = advise(task)
    languages = [f"  {side}_lang: {code}\n" for side, code in (("source", "en"), ("target", "de"))]
    text = draft(["Opening."], [], advice)
    train = "  train: [{source: a, target: b}]\n"
    return "run_dir: run\n" + text.replace("data:\n", "".join(["data:\n", *languages, train]))


@pytest.mark.parametrize("task", TASKS)
def test_all_advice_is_a_configuration(task: Task) -> None:
    config = check_text(written(task), "my.yaml")
    assert isinstance(config, Config)
    given = values(task)
    asked = sum(given[f"data.{name}"]["from_train"] for name in ("valid", "test"))
    assert 0 < asked <= task.num_sources // 2
    assert config.training.warmup_updates >= 1
    assert config.training.valid_every >= 1
    assert config.training.max_minutes == task.minutes


@pytest.mark.parametrize("task", TASKS)
def test_every_line_fits_and_the_first_key_of_a_choice_has_a_reason(task: Task) -> None:
    assert all(len(line) <= WIDTH for line in written(task).splitlines())
    reasons = {choice.key: choice.reason for choices in advise(task).values() for choice in choices}
    for key in ("valid", "test", "vocab_size", "encoder_layers", "dropout", "max_minutes",
                "optimizer", "valid_every"):  # fmt: skip
        assert reasons[key]


def test_the_measured_points_are_met() -> None:
    small = values(MULTI30K)
    for key, value in {
        "tokenizer.type": "unigram",
        "tokenizer.vocab_size": 6000,
        "model.encoder_layers": 4,
        "model.decoder_layers": 4,
        "model.d_model": 128,
        "model.ffn_dim": 512,
        "model.dropout": 0.2,
        "training.optimizer": "muon",
        "training.batch_tokens": 2400,
        "training.learning_rate": 4e-3,
        "training.warmup_updates": 100,
    }.items():
        assert small[key] == value, key
    assert "decoding.repetition_guard" not in small
    short = values(replace(MULTI30K, minutes=10))
    assert (short["model.dropout"], short["training.warmup_updates"]) == (0.05, 50)
    assert short["decoding.repetition_guard"]
    on_gpu = values(replace(MULTI30K, machine=GPU, minutes=5))
    for key, value in {
        "model.encoder_layers": 3,
        "model.d_model": 256,
        "model.dropout": 0.3,
        "training.batch_tokens": 4096,
        "training.learning_rate": 3e-3,
        "training.warmup_updates": 250,
        "training.compile_layers": False,
    }.items():
        assert on_gpu[key] == value, key


def test_more_text_and_more_time_make_a_wider_model_with_more_pieces() -> None:
    more_text = replace(MULTI30K, num_sources=200_000, num_pairs=200_000, minutes=60)
    tasks = MULTI30K, replace(more_text, minutes=10), more_text, MILLIONS
    widths = [values(task)["model.d_model"] for task in tasks]
    assert widths == [128, 128, 256, 512]
    pieces = [values(replace(MULTI30K, num_pairs=number))["tokenizer.vocab_size"]
              for number in (1000, 10_000, 29_000, 60_000, 10**9)]  # fmt: skip
    assert pieces == sorted(pieces)
    assert pieces[-1] == 8000  # a small model cannot afford more
    assert values(MILLIONS)["tokenizer.vocab_size"] == 32_000


def test_the_time_is_cut_where_a_machine_would_learn_the_text_by_heart() -> None:
    long = values(replace(MULTI30K, machine=GPU, minutes=60))
    tokens = long["training.max_updates"] * 4096 * 0.94
    assert tokens == pytest.approx(60 * 29_000 * 14.3, rel=0.05)
    assert "training.max_updates" not in values(MULTI30K)


def test_more_cores_and_bf16_count_as_more_time() -> None:
    slow = values(replace(MULTI30K, machine=Machine(2, "fp32", "")))
    fast = values(replace(MULTI30K, machine=Machine(4, "bf16", "")))
    assert slow["model.dropout"] < values(MULTI30K)["model.dropout"] <= fast["model.dropout"]
    assert slow["training.valid_every"] < fast["training.valid_every"]


def test_validation_of_a_short_training_is_short() -> None:
    big = replace(MULTI30K, num_sources=10**6, num_pairs=10**6)
    sizes = [values(replace(big, minutes=minutes))["data.valid"]["from_train"]
             for minutes in (0.1, 1, 5, 60)]  # fmt: skip
    assert sizes == [50, 200, 1000, 2000]


def test_a_corpus_that_is_too_small_is_refused_with_what_it_needs() -> None:
    with pytest.raises(UserError, match=r"has 999 different sources; with fewer than 1,000"):
        advise(replace(MULTI30K, num_sources=999))


@pytest.mark.parametrize("value", ["no", "a: b", "1e-3", "ä b", {"from_train": 5}, [{"path": "#"}]])
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    text = f"run_dir: run\nx: {dump_value(value)} # comment\n"
    with pytest.raises(UserError, match="unknown key x"):
        check_text(text, "my.yaml")
    assert parse_tree(text, "my.yaml")[0]["x"] == value
    assert "\n" not in dump_value(value)
