"""Links count the words that the tokenizer sees, whatever spaces a translation has."""

import pytest
import torch

from mtrain.data.folders import DataFolder
from mtrain.inference.load import LoadedRun
from mtrain.models import build_model
from mtrain.runtime.precision import choose_precision
from tests.in_process import prepare_small_task, small_config


@pytest.mark.parametrize(("normalization", "num_words"), [("identity", 2), ("nmt_nfkc", 3)])
@pytest.mark.parametrize("space", ["\u00a0", "\u202f", "\u3000"])
def test_a_space_parts_words_only_where_the_tokenizer_rewrites_it(
    space: str, normalization: str, num_words: int, runs: dict[str, LoadedRun],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    loaded = runs[normalization]
    texts = "3 1 2", f"two{space}one three"
    linker = loaded.linker()
    [links] = linker.link(loaded.encode_pairs(*([text] for text in texts)), [texts])
    linker.report()
    assert links
    assert all(target < num_words for _, target in links)
    assert capsys.readouterr().err == ""


def test_words_that_only_the_tokenizer_sees_get_no_links(
    runs: dict[str, LoadedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = runs["nmt_nfkc"]
    texts = "3 1", "one\u200bthree"  # a hidden blank
    linker = loaded.linker()
    assert linker.link(loaded.encode_pairs(*([text] for text in texts)), [texts]) == [set()]
    linker.report()
    assert "1 lines have no links" in capsys.readouterr().err


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedRun]:
    """A model that has learnt nothing, with a tokenizer that keeps spaces and one that folds."""
    loaded = {}
    for normalization in ("identity", "nmt_nfkc"):
        folder = prepare_small_task(tmp_path_factory.mktemp(normalization), normalization)
        tokenizer = {"vocab_size": 320, "normalization": normalization}
        config = small_config(folder, folder / "run", tokenizer=tokenizer)
        tokenizers = DataFolder(config.data_path).tokenizers()
        sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
        torch.manual_seed(1)
        model, precision = build_model(config, *sizes), choose_precision("fp32", "cpu")
        loaded[normalization] = LoadedRun(config, tokenizers, model, precision, folder)
    return loaded
