"""Links count the words that the tokenizer sees, whatever spaces a translation has."""

import pytest
import torch

from mtrain.commands.prepare import prepare
from mtrain.data.folders import DataFolder
from mtrain.inference.load import LoadedRun
from mtrain.models import build_model
from mtrain.runtime.precision import choose_precision
from mtrain.text.protection import Protection
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


TAG = '<a href="x y z">'


def test_the_words_of_a_protected_span_count_as_they_stand_in_the_text(
    runs: dict[str, LoadedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = runs["protected"]
    linker = loaded.linker()
    texts = f"3 {TAG} {{x}} 1", f"one {{x}} {TAG} three"
    pairs = loaded.encode_pairs(*([text] for text in texts))
    read = loaded.tokenizers.source.decode([pairs[0][0][0]])
    assert read == ["3 <p1> <p2> 1"]
    [links] = linker.link(pairs, [texts])
    linker.report()
    assert capsys.readouterr().err == ""
    num_words = len(texts[0].split())
    assert links
    assert all(max(link) < num_words for link in links)
    for source, target in links:  # an untrained model: any word may be linked to any
        if source in (1, 2, 3, 4) and target in (2, 3, 4, 5):
            assert source == target - 1  # word by word


def test_an_untrained_translation_has_links_of_real_words_alone(
    runs: dict[str, LoadedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    """It writes pieces that stand for nothing, which are no words of its text."""
    loaded = runs["protected"]
    lines = [f"3 {TAG} 1", "{x} 2", "1 2 3", TAG, ""]
    found = loaded.translate(lines, alignments=True, method="sample", temperature=2.0)
    assert any(each.num_unexpected for each in found)
    for line, each in zip(lines, found, strict=True):
        assert each.links is not None
        num_words = len(line.split()), len(list(filter(None, each.text.split(" "))))
        assert all(s < num_words[0] and t < num_words[1] for s, t in each.links)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedRun]:
    """A model that has learnt nothing, with tokenizers that keep spaces, fold them, and protect."""
    loaded = {}
    for name in ("identity", "nmt_nfkc", "protected"):
        normalization = "identity" if name == "protected" else name
        folder = prepare_small_task(tmp_path_factory.mktemp(name), normalization)
        tokenizer = {"vocab_size": 320, "normalization": normalization}
        config = small_config(folder, folder / "run", tokenizer=tokenizer)
        if name == "protected":
            data = config.data.model_copy(update={"protect": ("placeholders", "tags")})
            config = config.model_copy(update={"data": data, "data_dir": folder / "protected"})
            prepare(config)
        tokenizers = DataFolder(config.data_path).tokenizers()
        tokenizers = tokenizers.protecting(Protection.of(config.data.protect))
        sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
        torch.manual_seed(1)
        model, precision = build_model(config, *sizes), choose_precision("fp32", "cpu")
        loaded[name] = LoadedRun(config, tokenizers, model, precision, folder)
    return loaded
