"""The four verbs one after another, on a task that is learnt in seconds."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

from tests.cli.conftest import contents
from tests.cli.warm import WarmCommandLine
from tests.conftest import every_line, succeed


def read_json(text: str) -> list[dict[str, Any]]:
    """Return one object for each line."""
    return [json.loads(line) for line in every_line(text)]


def test_training_reaches_a_high_bleu_on_unseen_sentences(trained: WarmCommandLine) -> None:
    (scored,) = json.loads(succeed(trained, "score", "run", "--json").out)["sets"]
    assert scored["name"] == "held-out"
    assert scored["sentences"] == 60
    assert scored["scores"][0]["name"] == "BLEU"
    assert scored["scores"][0]["value"] > 80


def test_translate_and_score_agree_on_the_test_set(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    succeed(trained, "translate", "run", "test.digits", "--output", tmp_path / "out")
    arguments = ("--hypotheses", tmp_path / "out", "--references", "test.words", "--json")
    (of_files,) = json.loads(succeed(trained, "score", *arguments).out)["sets"]
    (of_run,) = json.loads(succeed(trained, "score", "run", "--json").out)["sets"]
    assert of_files["scores"] == of_run["scores"]


def test_a_moved_run_folder_translates_and_scores_without_what_it_was_made_from(
    warm: WarmCommandLine, trained_copy: Path, trained: WarmCommandLine
) -> None:
    moved = trained_copy / "elsewhere" / "model"
    moved.parent.mkdir()
    shutil.move(trained_copy / "run", moved)
    shutil.rmtree(moved / "data")
    for path in trained_copy.iterdir():
        if path.is_file():
            path.unlink()
    text = b"1 2 3\n9 8 7 6\n"
    there, here = warm("translate", moved, stdin=text), trained("translate", "run", stdin=text)
    assert (there.code, there.out) == (0, here.out)
    assert succeed(warm, "score", moved).out == succeed(trained, "score", "run").out


def test_training_a_finished_run_says_so_and_changes_nothing(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    before = contents(trained_copy)
    again = succeed(warm, "train", "config.yaml")
    assert "finished: 600 updates" in again.err
    assert contents(trained_copy) == before


def test_training_on_lines_that_do_not_match_says_so(warm: WarmCommandLine, task: Path) -> None:
    lines = (task / "train.words").read_text().splitlines(keepends=True)
    (task / "train.words").write_text("".join(sorted(lines)))
    succeed(warm, "prepare", "config.yaml")
    said = succeed(warm, "train", "config.yaml", "--set", "training.max_updates=60").err
    assert "the model does not use the source" in said
    assert "lines of source and target in data.train do not match" in said


def test_a_finished_training_says_what_to_do_next(warm: WarmCommandLine, task: Path) -> None:
    succeed(warm, "prepare", "config.yaml")
    options = ("--set", "training.max_updates=150", "--set", "training.valid_every=50")
    said = succeed(warm, "train", "config.yaml", *options).err
    assert "in the last 10% of the time" in said
    assert "does not use the source" not in said


def test_a_finished_run_goes_on_with_a_higher_max_updates(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    more = succeed(warm, "train", "config.yaml", "--set", "training.max_updates=610")
    assert "resuming from run/checkpoints/update-00000600" in more.err
    assert "finished: 610 updates" in more.err
    events = read_json((trained_copy / "run" / "metrics.jsonl").read_text())
    assert [event["update"] for event in events if event["kind"] == "train"] == list(
        range(5, 611, 5)
    )
    assert [event["update"] for event in events if event["kind"] == "valid"] == [200, 400, 600, 610]
    assert "    610" in more.out  # the learning curve, the earlier part included
    assert "    200" in more.out


def test_dev_bleu_is_that_of_translating_the_valid_text_with_that_checkpoint(
    trained: WarmCommandLine, trained_run: Path, tmp_path: Path
) -> None:
    events = read_json((trained_run / "metrics.jsonl").read_text())
    measured = {event["update"]: event for event in events if event["kind"] == "valid"}
    for update in (400, 600):
        out = tmp_path / f"{update}.words"
        checkpoint = f"update-{update:08}"
        succeed(
            trained, "translate", "run", "valid.digits", "--output", out, "--checkpoint", checkpoint
        )
        arguments = ("--hypotheses", out, "--references", "valid.words", "--json")
        (scored,) = json.loads(succeed(trained, "score", *arguments).out)["sets"]
        figures = {figure["name"]: figure["value"] for figure in scored["scores"]}
        assert figures["BLEU"] == measured[update]["bleu"]
        assert figures["chrF2"] == measured[update]["chrf"]
    assert measured[200]["bleu"] < measured[400]["bleu"] < measured[600]["bleu"]


def test_every_event_has_its_figures(trained_run: Path) -> None:
    events = read_json((trained_run / "metrics.jsonl").read_text())
    everywhere = {"kind", "update", "minutes", "target_tokens"}
    keys = {
        "train": {
            *everywhere,
            "epoch",
            "learning_rate",
            "loss",
            "gradient_norm",
            "skipped",
            "tokens_per_second",
            "share_waiting_for_data",
        },
        "valid": {*everywhere, "loss", "bleu", "chrf"},
    }
    assert {event["kind"] for event in events} == set(keys)
    for event in events:
        assert set(event) == keys[event["kind"]]
        assert 0 <= event.get("share_waiting_for_data", 0) <= 1
    assert [event["update"] for event in events] == sorted(event["update"] for event in events)


def test_training_counts_real_target_tokens(trained_run: Path) -> None:
    """An epoch of the log is the corpus: its target tokens and an end mark a sentence."""
    manifest = json.loads((trained_run / "data" / "manifest.json").read_text())
    train = manifest["splits"]["train"]
    an_epoch = train["tokens"]["target"] + train["pairs"]
    events = read_json((trained_run / "metrics.jsonl").read_text())
    for event in events:
        if event["kind"] == "train":
            epochs = event["target_tokens"] / an_epoch
            assert event["epoch"] <= epochs + 1e-9 < event["epoch"] + 1
    assert epochs > 10


def test_check_forecasts_and_leaves_the_run_folder_as_it_was(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    before = contents(trained_copy)
    told = succeed(warm, "train", "config.yaml", "--check").out
    for word in ("largest batch", "peak memory", "an update", "a validation", "hours", "disk"):
        assert word in told
    assert "600 updates" in told
    assert "to 64 are extrapolated (sinusoidal): the longest training text has" in told
    assert contents(trained_copy) == before


def test_check_makes_no_run_folder(warm: WarmCommandLine, task: Path) -> None:
    elsewhere = ("--set", "data_dir=data")
    succeed(warm, "prepare", "config.yaml", *elsewhere)
    succeed(warm, "train", "config.yaml", *elsewhere, "--check")
    assert not (task / "run").exists()


def test_the_best_checkpoint_is_kept_and_translated_with(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    """Going on with the learning rate back up is worse at first: newer, and not what is used."""
    longer = ("--set", "training.max_updates=100000", "--set", "training.valid_every=2")
    running = warm.start("train", "config.yaml", *longer, "--set", "training.keep_last=1")
    running.wait_until(lambda: "update 606," in running.said)
    running.send(signal.SIGTERM)
    assert running.finish().code == 128 + signal.SIGTERM
    events = read_json((trained_copy / "run" / "metrics.jsonl").read_text())
    measured = [(event["bleu"], event["update"]) for event in events if event["kind"] == "valid"]
    best = f"update-{max(measured)[1]:08}"
    names = sorted(path.name for path in (trained_copy / "run" / "checkpoints").iterdir())
    assert len(names) == 2
    assert best in names
    assert best < names[-1]
    assert best in succeed(warm, "translate", "run", stdin=b"1 2\n").err
