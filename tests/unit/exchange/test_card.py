"""The model card and the results that the Hub reads beside it."""

from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from mtrain.config import Config
from mtrain.evaluation.metrics import Score
from mtrain.exchange.card import Facts, TestScores, write_card

PLAIN = {"source": "a.en", "target": "a.de"}


def test_a_benchmark_of_the_hub_gets_a_file_of_results_and_a_file_of_text_none(
    tmp_path: Path,
) -> None:
    local = tmp_path / "local"
    local.mkdir()
    hub = {"wmt": {"hub": "wmt/wmt14", "config": "de-en"}, "folder": {"hub": str(local)},
           "text": PLAIN}  # fmt: skip
    config = Config.model_validate(
        {
            "run_dir": "run",
            "data": {
                "source_lang": "en",
                "target_lang": "de",
                "train": [PLAIN],
                "valid": [PLAIN],
                "test": [{"name": name, **corpus} for name, corpus in hub.items()],
            },
        }
    )
    scores = [Score("BLEU", 31.256, "nrefs:1"), Score("chrF2", 60.0, "nrefs:1")]
    tests = [TestScores(name, 10, scores) for name in hub]
    write_card(tmp_path, "my-model", Facts(config, 1000, 10, {}, tests, True))
    (written,) = (tmp_path / ".eval_results").iterdir()
    assert written.name == "wmt.yaml"
    (entry,) = yaml.safe_load(written.read_text())
    assert entry["dataset"] == {"id": "wmt/wmt14", "task_id": "de-en"}
    assert entry["value"] == 31.26
    assert "nrefs:1" in entry["notes"]
    card = ModelCard((tmp_path / "README.md").read_text())
    assert {result.dataset_name for result in card.data.eval_results} == set(hub)
