"""`mtrain compare`: what differs, whether it is significant, and what cannot be compared."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import contents
from tests.cli.warm import WarmCommandLine
from tests.conftest import every_line, succeed

BERT = """\
run_dir: bert
data:
  train: [{text: train.words, lang: en}]
  valid: [{text: valid.words, lang: en}]
model: {type: bert}
training: {objective: masked_lm}
"""
REVERSE = """\
run_dir: reverse
data:
  source_lang: words
  target_lang: digits
  train: [{source: train.words, target: train.digits}]
  valid: [{source: valid.words, target: valid.digits}]
"""


@pytest.fixture(scope="module")
def runs(
    trained_run: Path, tmp_path_factory: pytest.TempPathFactory, server: None
) -> Iterator[WarmCommandLine]:
    """The command line beside `early`, the trained run as it was at update 400, and `late`.

    Only to be read.
    """
    folder = tmp_path_factory.mktemp("runs")
    for name in ("early", "late"):
        shutil.copytree(trained_run, folder / name)
    early = folder / "early"
    shutil.rmtree(early / "checkpoints" / "update-00000600")
    config = (early / "config.yaml").read_text()
    assert "warmup_updates: 20\n" in config
    (early / "config.yaml").write_text(
        config.replace("warmup_updates: 20\n", "warmup_updates: 10\n")
    )
    events = every_line((early / "metrics.jsonl").read_text())
    kept = [line for line in events if json.loads(line)["update"] <= 400]
    (early / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    for name, text in (("bert", BERT), ("reverse", REVERSE)):
        (folder / name).mkdir()
        (folder / name / "config.yaml").write_text(text)
    with closing(WarmCommandLine(folder)) as command_line:
        yield command_line


def dev_scores(run: Path) -> dict[int, float]:
    events = [json.loads(line) for line in every_line((run / "metrics.jsonl").read_text())]
    return {event["update"]: event["bleu"] for event in events if event["kind"] == "valid"}


def compared(runs: WarmCommandLine, *arguments: object) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(succeed(runs, "compare", *arguments, "--json").out)
    return answer


def test_it_tells_configuration_data_curves_significance_and_sentences(
    runs: WarmCommandLine, trained_run: Path
) -> None:
    before = contents(runs.folder)
    scores = dev_scores(trained_run)
    found = compared(runs, "early", "late")
    assert found["configuration"] == {"training.warmup_updates": [10, 20]}
    assert found["data"] == {}
    assert [point["update"] for point in found["curve"]] == [200, 400]
    assert [point["score"] for point in found["curve"]] == [[scores[200]] * 2, [scores[400]] * 2]
    best = [(course["best_update"], course["best"]) for course in found["courses"]]
    assert best == [(400, scores[400]), (600, scores[600])]
    (valid,) = found["sets"]
    assert (valid["name"], valid["direction"], valid["sentences"]) == ("valid", "digits-words", 60)
    bleu = valid["scores"][0]
    assert (bleu["baseline"], bleu["value"]) == (scores[400], scores[600])
    assert 0 < bleu["p_value"] <= 1
    sources = every_line((trained_run.parent / "valid.digits").read_text())
    kept = json.loads((trained_run / "valid.json").read_text())["sets"][0]["hypotheses"]
    assert valid["better"]
    for sentence in valid["better"] + valid["worse"]:
        assert sentence["source"] == sources[sentence["line"] - 1]
        assert sentence["now"] == kept[sentence["line"] - 1]
    assert all(each["score_now"] > each["score_before"] for each in valid["better"])
    assert all(each["score_now"] < each["score_before"] for each in valid["worse"])

    turned = compared(runs, "late", "early")["sets"][0]
    assert [each["line"] for each in turned["worse"]] == [each["line"] for each in valid["better"]]
    assert turned["scores"][0]["p_value"] == bleu["p_value"]

    told = succeed(runs, "compare", "early", "late").out
    for wanted in ("A  early", "B  late", "training.warmup_updates: 10 | 20", "the same",
                   f"{scores[400]:.2f}", f"{scores[600]:.2f}", "nrefs:1|bs:1000",
                   "sentences that are better in B",
                   "valid, digits-words, 60 sentences"):  # fmt: skip
        assert wanted in told, wanted
    assert contents(runs.folder) == before


def test_on_test_sets_it_gives_the_scores_of_score(runs: WarmCommandLine) -> None:
    found = compared(runs, "early", "late", "--test")
    (tested,) = found["sets"]
    for name, key in (("early", "baseline"), ("late", "value")):
        (scored,) = json.loads(succeed(runs, "score", name, "--json").out)["sets"]
        assert tested["scores"][0][key] == scored["scores"][0]["value"]


def test_other_sentences_are_not_compared_but_the_rest_is(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    shutil.copytree(trained_copy / "run", trained_copy / "other")
    kept = json.loads((trained_copy / "other/valid.json").read_text())
    kept["sets"][0]["references"][7] = "another reference"
    (trained_copy / "other/valid.json").write_text(json.dumps(kept))
    manifest = json.loads((trained_copy / "other/data.json").read_text())
    manifest["filtered"][0]["counts"] |= {"kept": 1999, "length": 1}
    (trained_copy / "other/data.json").write_text(json.dumps(manifest))
    told = succeed(warm, "compare", "run", "other").out
    assert (
        "not compared: valid digits-words is not the same sentences in both runs (60 and 60 lines)"
        in told
    )
    assert "corpora.0.kept: 2000 | 1999" in told
    assert "corpora.0.dropped.length: 0 | 1" in told
    assert "valid, digits-words" not in told
    (trained_copy / "other/valid.json").unlink()
    shutil.rmtree(trained_copy / "other/data")
    told = succeed(warm, "compare", "run", "other").out
    assert "the texts of valid of other are neither in its valid.json nor in" in told
    (trained_copy / "other/test/held-out.target").write_bytes(b"one\n" * 60)
    told = succeed(warm, "compare", "run", "other", "--test").out
    assert "held-out digits-words is not the same sentences in both runs" in told
    shutil.rmtree(trained_copy / "other/checkpoints")
    told = succeed(warm, "compare", "run", "other").out
    assert "not compared: other has no checkpoint yet" in told


def test_models_that_fill_masked_tokens_are_compared_by_their_curves(
    warm: WarmCommandLine,
) -> None:
    for number, name in enumerate(("one", "two")):
        config = BERT.replace("masked_lm}", "masked_lm, valid_metric: accuracy}")
        always = {"kind": "valid", "minutes": 1.0, "target_tokens": 100, "loss": 2.0}
        events = [
            {**always, "update": update, "accuracy": update + 0.5} for update in (10 + number, 20)
        ]
        (warm.folder / name).mkdir()
        (warm.folder / name / "config.yaml").write_text(f"{config}seed: {number}\n")
        lines = "".join(json.dumps(event) + "\n" for event in events)
        (warm.folder / name / "metrics.jsonl").write_text(lines)
    told = succeed(warm, "compare", "one", "two").out
    rows = [line.split() for line in told.split("\n")]
    for row in ("10 10.50 - 2.000 -", "11 - 11.50 - 2.000", "20 20.50 20.50 2.000 2.000"):
        assert row.split() in rows
    assert "seed: 0 | 1" in told
    assert "not compared: models that fill masked tokens are compared by their curves" in told


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("../{name}/late", "late and ../{name}/late are the same run"),
        ("bert", "late translates and bert fills masked tokens"),
        ("reverse", "late translates digits-words and reverse words-digits: no direction in"),
    ],
)
def test_runs_that_have_nothing_in_common_are_refused_by_name(
    second: str, message: str, runs: WarmCommandLine
) -> None:
    name = runs.folder.name
    refused = runs("compare", "late", second.format(name=name))
    assert refused.code == 2
    assert message.format(name=name) in refused.err
    assert refused.out == ""
