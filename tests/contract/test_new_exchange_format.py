"""A new exchange format is a file and a line of `FORMATS`.

The one registered here writes the names and sizes of the weights as JSON.
"""

import json
from pathlib import Path

import pytest

from mtrain import exchange
from mtrain.config import Config
from mtrain.errors import UserError
from mtrain.exchange import ExchangeFormat, exchange_format
from mtrain.exchange.base import export, is_whole
from mtrain.models import TranslationModel
from mtrain.text.tokenizer import TokenizerPair
from tests.contract.models import new_model
from tests.in_process import small_config


class Sizes(ExchangeFormat):
    """The whole format."""

    name = "sizes"

    def write(
        self, folder: Path, model: TranslationModel, config: Config, tokenizers: TokenizerPair
    ) -> None:
        sizes = {name: list(weight.shape) for name, weight in model.named_parameters()}
        (folder / "sizes.json").write_text(json.dumps(sizes))


@pytest.fixture
def given(small_task: Path, tmp_path: Path) -> tuple[TranslationModel, Config, TokenizerPair]:
    config = small_config(small_task, tmp_path / "no-run")
    tokenizers = TokenizerPair.load(small_task / "data" / "tokenizer")
    return new_model("transformer-modern"), config, tokenizers


def test_one_file_and_one_line_make_a_format(
    given: tuple[TranslationModel, Config, TokenizerPair],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It appears whole, and damage to it is noticed, as with any other."""
    monkeypatch.setitem(exchange.FORMATS, "sizes", (__name__, "Sizes", "json"))
    target = exchange_format("sizes", "this test")
    export(target, tmp_path / "out", *given)
    written = json.loads((tmp_path / "out" / "sizes.json").read_text())
    assert written.keys() == dict(given[0].named_parameters()).keys()
    assert is_whole(tmp_path / "out")
    (tmp_path / "out" / "sizes.json").write_text("{}")
    assert not is_whole(tmp_path / "out")


def test_a_model_that_a_format_cannot_hold_is_refused_and_leaves_nothing(
    given: tuple[TranslationModel, Config, TokenizerPair], tmp_path: Path
) -> None:
    given[0].export_limits = {"sizes": "model.positions: rotary"}
    with pytest.raises(UserError, match="sizes cannot hold a model"):
        export(Sizes(), tmp_path / "out", *given)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="no exchange format onnx") as refused:
        exchange_format("onnx", "this test")
    assert "ctranslate2" in refused.value.hint


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(exchange.FORMATS, "sizes", (__name__, "Sizes", "no_such_package"))
    with pytest.raises(UserError, match="no_such_package, which is not installed") as refused:
        exchange_format("sizes", "this test")
    assert "mtrain[sizes]" in refused.value.hint
