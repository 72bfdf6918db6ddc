"""`mtrain score --metrics` and `--test-set`: which scores, and sacreBLEU's own test sets."""

import json
from pathlib import Path

import pytest

from tests.cli.warm import WarmCommandLine
from tests.conftest import CommandLine, succeed, write_task

FILES = ("score", "--hypotheses", "out", "--references", "ref")


@pytest.fixture
def files(warm: WarmCommandLine, tmp_path: Path) -> Path:
    """A reference of 40 lines, and an output that lost the last word and the case of each."""
    write_task(tmp_path, {"test": 40})
    lines = (tmp_path / "test.words").read_text().split("\n")[:-1]
    (tmp_path / "ref").write_text("".join(f"{line} end .\n" for line in lines))
    (tmp_path / "out").write_text("".join(f"{line.title()} .\n" for line in lines))
    (tmp_path / "good").write_text((tmp_path / "ref").read_text())
    return tmp_path


def test_the_chosen_metrics_come_in_their_order_and_the_first_is_the_gate(
    warm: WarmCommandLine, files: Path
) -> None:
    chosen = ("--metrics", "bleu-tok-lc,chrf++,ter,bleu")
    (scored,) = json.loads(succeed(warm, *FILES, *chosen, "--json").out)["sets"]
    values = {each["name"]: each["value"] for each in scored["scores"]}
    assert list(values) == ["BLEU-tok-lc", "chrF2++", "TER", "BLEU"]
    assert values["BLEU-tok-lc"] > values["BLEU"] + 10
    assert "case:lc" in scored["scores"][0]["signature"]
    under = str((values["BLEU-tok-lc"] + values["BLEU"]) / 2)
    succeed(warm, *FILES, *chosen, "--fail-under", under)
    failed = warm(*FILES, "--fail-under", under)
    assert failed.code == 1
    assert f"BLEU {values['BLEU']:.2f} is under" in failed.err

    compared = (*FILES, *chosen, "--baseline", "good", "--json")
    (scored,) = json.loads(succeed(warm, *compared).out)["sets"]
    assert [each["name"] for each in scored["comparison"]] == ["BLEU-tok-lc", "chrF2++", "BLEU"]
    assert succeed(warm, *FILES, "--metrics", "ter").out.count("TER") == 1


def test_a_baseline_of_other_metrics_is_refused(warm: WarmCommandLine, files: Path) -> None:
    succeed(warm, *FILES, "--save-baseline", "base.json")
    refused = warm(*FILES, "--against", "base.json", "--metrics", "chrf++")
    assert refused.code == 2
    assert "chrF2++ was computed with nothing, now with nrefs:1" in refused.err
    succeed(warm, *FILES, "--against", "base.json", "--metrics", "chrf")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--metrics", "blue,chrf,chrf"), "there is no blue; did you mean bleu?"),
        (("--metrics", "blue,chrf,chrf"), "chrf is named twice"),
        (("--metrics", ""), "there is no name"),
        (("--metrics", "ter,bleu", "--fail-under", "1"), "a lower TER is better"),
        (("--metrics", "ter", "--baseline", "good"), "a lower TER is better"),
        (("--test-set", "wmt14:en-de"), "--test-set has the sources and references"),
        (("--metrics", "bleu", "--suite", "x.yaml"), "--suite belongs to a run"),
    ],
)
def test_what_cannot_be_measured_is_named(
    options: tuple[str, ...], told: str, warm: WarmCommandLine, files: Path
) -> None:
    refused = warm(*FILES, *options)
    assert refused.code == 2
    assert told in refused.err
    assert refused.out == ""


def test_sacrebleus_sets_are_read_from_disk_and_never_fetched(
    trained_copy: Path, warm: WarmCommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained_copy / "sacrebleu" / "wmt14"
    folder.mkdir(parents=True)
    for field, side in (("src", "digits"), ("ref", "words")):
        (folder / f"wmt14.digits-words.{field}").write_bytes(
            (trained_copy / f"test.{side}").read_bytes()
        )
    monkeypatch.setenv("SACREBLEU", str(folder.parent))
    mtrain, pair = CommandLine(trained_copy), "wmt14:digits-words"  # sacrebleu is not yet imported
    (own,) = json.loads(succeed(warm, "score", "run", "--json").out)["sets"]
    (found,) = json.loads(succeed(mtrain, "score", "run", "--test-set", pair, "--json").out)["sets"]
    assert found["name"] == pair
    assert {**found, "name": own["name"]} == own

    succeed(warm, "translate", "run", "test.digits", "--output", "out")
    of_file = ("score", "--hypotheses", "out", "--test-set", pair, "--fail-on", "copied=0")
    (scored,) = json.loads(succeed(mtrain, *of_file, "--json").out)["sets"]
    assert [each["value"] for each in scored["scores"]] == [each["value"] for each in own["scores"]]
    (trained_copy / "out").write_text("one\n")
    refused = mtrain(*of_file)
    assert f"out has 1 lines but {pair} has 60" in refused.err
    several = mtrain(*of_file[:5], "--test-set", "wmt15:digits-words")
    assert "--hypotheses are of one test set, and 2 are named" in several.err
    (folder / "wmt14.words-digits.src").write_text("one\n")
    (folder / "wmt14.words-digits.ref").write_text("1\n")
    refused = mtrain("score", "run", "--test-set", "wmt14:words-digits")
    assert (refused.code, refused.out) == (2, "")
    assert "--test-set wmt14:words-digits is for words-digits, and run translates" in refused.err
    refused = mtrain("score", "run", "--test-set", "wmt15:digits-words")
    assert "wmt15:digits-words: it is not on this machine" in refused.err
    assert "sacrebleu -t wmt15 -l digits-words" in refused.err
