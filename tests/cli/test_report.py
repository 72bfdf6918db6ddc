"""`mtrain report`, and the page at the end of training: its contents, and its checkpoint."""

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from mtrain.checkpoints.format import weights_digest
from tests.cli.conftest import contents
from tests.cli.warm import WarmCommandLine
from tests.conftest import CommandLine, every_line, succeed


def text_of(page: Path) -> str:
    """Return what a reader sees of a page, its white space as it comes."""
    body = page.read_text("utf-8").partition("<body>")[2]
    return html.unescape(re.sub("<[^>]*>", " ", body))


def dev_bleu(page: Path) -> float:
    """Return the BLEU on valid among the scores of a page."""
    found = re.search(r"valid\s+digits-words\s+60\s+BLEU\s+(\S+)", text_of(page))
    assert found is not None
    return float(found[1])


def best_event(run: Path) -> dict[str, Any]:
    events = [json.loads(line) for line in every_line((run / "metrics.jsonl").read_text())]
    valid = [event for event in events if event["kind"] == "valid"]
    return max(valid, key=lambda event: (event["bleu"], event["update"]))


def test_a_training_ends_with_the_page_that_report_writes(
    trained: WarmCommandLine, trained_run: Path, tmp_path: Path
) -> None:
    page = trained_run / "report.html"
    told, best = text_of(page), best_event(trained_run)
    for wanted in (f"BLEU {best['bleu']:.2f}, chrF {best['chrf']:.2f}", "600", "digits to words",
                   "transformer", "Learning curves", "tok:13a", "source words", "median, line",
                   "2,000", "320 pieces", "ffn_dim: 128"):  # fmt: skip
        assert wanted in told, wanted
    assert page.read_text("utf-8").count('class="heat"') == 3
    assert "held-out digits-words" not in told
    said = succeed(trained, "report", "run", "--output", tmp_path / "again.html").err
    assert "validating" not in said
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()
    assert succeed(trained, "report", "run", "--output", "-").out == page.read_text("utf-8")


def test_the_best_checkpoint_s_translations_of_valid_are_kept(
    trained: WarmCommandLine, trained_run: Path, tmp_path: Path
) -> None:
    kept = json.loads((trained_run / "valid.json").read_text("utf-8"))
    assert kept["checkpoint"] == f"update-{best_event(trained_run)['update']:08}"
    assert kept["weights"] == weights_digest(trained_run / "checkpoints" / kept["checkpoint"])
    (of_valid,) = kept["sets"]
    for name, lines in (("digits", "sources"), ("words", "references")):
        given = (trained_run.parent / f"valid.{name}").read_text()
        assert every_line(given) == of_valid[lines]
    out = tmp_path / "out"
    succeed(trained, "translate", "run", "valid.digits", "--output", out,
            "--checkpoint", kept["checkpoint"])  # fmt: skip
    assert every_line(out.read_text()) == of_valid["hypotheses"]


def test_test_sets_come_on_request_with_the_scores_of_score(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    succeed(trained, "report", "run", "--test", "--output", tmp_path / "page.html")
    (scored,) = json.loads(succeed(trained, "score", "run", "--json").out)["sets"]
    told = re.sub(r"\s+", " ", text_of(tmp_path / "page.html"))
    for figure in scored["scores"]:
        assert (
            f"held-out digits-words 60 {figure['name']} {figure['value']:.2f} {figure['signature']}"
        ) in told


def test_another_search_translates_valid_anew(
    trained: WarmCommandLine, trained_run: Path, tmp_path: Path
) -> None:
    shorter = ("--set", "decoding.max_length_ratio=0.5")
    succeed(trained, "report", "run", "--output", tmp_path / "page.html", *shorter)
    succeed(trained, "translate", "run", "valid.digits", "--output", tmp_path / "out", *shorter)
    arguments = ("--hypotheses", tmp_path / "out", "--references", "valid.words", "--json")
    (scored,) = json.loads(succeed(trained, "score", *arguments).out)["sets"]
    bleu = scored["scores"][0]["value"]
    assert f"{dev_bleu(tmp_path / 'page.html'):.2f}" == f"{bleu:.2f}"
    assert bleu < best_event(trained_run)["bleu"] - 1


def test_translations_of_an_earlier_search_are_not_taken_for_the_present_ones(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    """A finished training may be run again with another search, and has nothing to translate."""
    page, kept = trained_copy / "run/report.html", trained_copy / "run/valid.json"
    before, of_first_search, bleu = page.read_bytes(), kept.read_bytes(), dev_bleu(page)
    succeed(warm, "train", "config.yaml", "--set", "decoding.max_length_ratio=0.5")
    assert kept.read_bytes() == of_first_search
    assert dev_bleu(page) < bleu - 1
    succeed(warm, "train", "config.yaml")
    assert page.read_bytes() == before


@pytest.mark.parametrize("content", ["{}", "[]", '{"format": 99}', "{"])
def test_a_damaged_copy_of_the_manifest_is_warned_of_and_the_data_folder_read(
    content: str, warm: WarmCommandLine, trained_copy: Path
) -> None:
    page, copy = trained_copy / "run/report.html", trained_copy / "run/data.json"
    before = page.read_bytes()
    copy.write_text(content)
    assert "so it is not read" in succeed(warm, "report", "run").err
    assert page.read_bytes() == before


def test_what_is_gone_is_told_and_valid_is_translated_where_it_is_not_kept(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    run = trained_copy / "run"
    before = (run / "report.html").read_bytes()
    (run / "valid.json").unlink()
    (run / "data.json").unlink()
    said = succeed(warm, "report", "run").err
    assert (run / "report.html").read_bytes() == before  # from the data folder
    shutil.rmtree(run / "data")
    succeed(warm, "report", "run")
    told = text_of(run / "report.html")
    assert "neither in valid.json in the run folder nor in the data folder run/data" in told
    assert "there is no data.json in the run folder" in told
    assert "Dev BLEU" in told
    for weights in (run / "checkpoints").glob("*/model.safetensors"):
        weights.write_bytes(b"")
    said_of_damage = succeed(warm, "report", "run").err
    assert "is damaged" in said_of_damage
    assert "Dev BLEU" in text_of(run / "report.html")
    assert "warning" not in said.replace("warning: 'words' is not", "")


def test_kept_translations_of_another_checkpoint_are_not_taken_for_the_best_one_s(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    """Only checkpoint 400 is left; what 600 translated is kept."""
    run = trained_copy / "run"
    shutil.rmtree(run / "checkpoints" / "update-00000600")
    shutil.rmtree(run / "data")
    succeed(warm, "report", "run")
    events = [json.loads(line) for line in every_line((run / "metrics.jsonl").read_text())]
    (at_400,) = [event for event in events if event["kind"] == "valid" and event["update"] == 400]
    told = re.sub(r"\s+", " ", text_of(run / "report.html"))
    assert f"valid digits-words 60 BLEU {at_400['bleu']:.2f} " in told


def test_a_run_that_never_validated_is_named_and_nothing_is_lost(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    run = trained_copy / "run"
    for gone in ("checkpoints", "data"):
        shutil.rmtree(run / gone)
    events = every_line((run / "metrics.jsonl").read_text())
    (run / "metrics.jsonl").write_text("\n".join(events[:3]) + "\n")
    (trained_copy / "page.html").write_text("precious")
    before = contents(trained_copy)
    for options in ((), ("--test",), ("--output", "page.html")):
        refused = warm("report", "run", *options)
        assert refused.code == 2
        assert "run: this run has never validated, so there is nothing to report" in refused.err
        assert "validates every training.valid_every 200 updates and at the end" in refused.err
    assert contents(trained_copy) == before


def test_a_page_of_another_program_is_not_overwritten_and_training_goes_on_without(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    page = trained_copy / "run" / "report.html"
    page.write_text("precious")
    refused = warm("report", "run")
    assert refused.code == 2
    assert "run/report.html: not written by mtrain" in refused.err
    trained = succeed(warm, "train", "config.yaml")
    assert "warning: no report.html (run/report.html: not written by mtrain" in trained.err
    assert "    600" in trained.out
    assert page.read_text() == "precious"
    page.unlink()
    page.mkdir()
    trained = succeed(warm, "train", "config.yaml")
    assert "warning: no report.html (" in trained.err
    assert "to try again: mtrain report run" in trained.err


def test_errors_come_before_torch(mtrain: CommandLine) -> None:
    (mtrain.folder / "torch.py").write_text("raise ImportError('torch was imported')")
    for command in (("report", "nowhere"), ("compare", "nowhere", "elsewhere")):
        refused = mtrain(*command)
        assert refused.code == 2
        assert "nowhere: there is no such run folder" in refused.err


@pytest.mark.parametrize("name", ["valid.json", "data.json"])
def test_a_damaged_file_of_the_run_costs_a_warning(
    name: str, warm: WarmCommandLine, trained_copy: Path
) -> None:
    run = trained_copy / "run"
    before = (run / "report.html").read_bytes()
    (run / name).write_text('{"format": 1,')
    assert f"warning: run/{name}: damaged" in succeed(warm, "report", "run").err
    assert (run / "report.html").read_bytes() == before
