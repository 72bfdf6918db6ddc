"""The ceiling: what a tokenizer cannot write is counted, scored and shown; else nothing is."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mtrain.config.tokenizer import TokenizerConfig
from mtrain.data import ceiling
from mtrain.data.ceiling import measure_ceiling, measure_ceilings
from mtrain.data.held_out import Part
from mtrain.evaluation.metrics import bleu_and_chrf
from mtrain.text.tokenizer import Tokenizer, train_tokenizer

PERSIAN = ["گربه می\u200cداند.", "عمو نمی\u200cرود؟", "کودک سیب دارد."] * 20
CHINESE = ["猫画外套，对吗？", "狗卖信，对吗？", "医生刷纸袋。"] * 20


def in_language(
    hypotheses: Sequence[str], references: Sequence[str], target_lang: str
) -> tuple[float, float]:
    return bleu_and_chrf(hypotheses, references, target_lang)


def in_chinese(hypotheses: Sequence[str], references: Sequence[str]) -> tuple[float, float]:
    return bleu_and_chrf(hypotheses, references, "zho_Hans")


def no_scores(hypotheses: Sequence[str], references: Sequence[str]) -> tuple[float, float]:
    raise AssertionError("nothing is scored where nothing is lost")


def tokenizer(folder: Path, normalization: str) -> Tokenizer:
    config = TokenizerConfig.model_validate({"vocab_size": 330, "normalization": normalization})
    train_tokenizer(PERSIAN + CHINESE, config, folder / "a.model")
    return Tokenizer(folder / "a.model")


def raw(lines: Sequence[str]) -> list[bytes]:
    return [line.encode() for line in lines]


def test_what_nfkc_rewrites_lowers_the_ceiling(tmp_path: Path) -> None:
    rewriting = tokenizer(tmp_path, "nmt_nfkc")
    told = measure_ceiling(raw(CHINESE), rewriting, in_chinese)
    written = ["猫画外套,对吗?", "狗卖信,对吗?", "医生刷纸袋。"] * 20
    assert (told["lines"], told["changed"], told["scored"]) == (60, 40, 60)
    assert (told["bleu"], told["chrf"]) == in_chinese(written, CHINESE)
    assert 0 < told["bleu"] < 90
    assert told["examples"] == [(CHINESE[0], written[0]), (CHINESE[1], written[1]),
                                (CHINESE[0], written[0])]  # fmt: skip
    told = measure_ceiling(raw(PERSIAN), rewriting, in_chinese)
    assert told["changed"] == 40
    assert told["examples"][0] == (PERSIAN[0], PERSIAN[0].replace("\u200c", " "))


def test_identity_has_no_ceiling_but_for_the_mark_of_sentencepiece(tmp_path: Path) -> None:
    keeping = tokenizer(tmp_path, "identity")
    odd = ["«\u00a0oui\u00a0»\u202f?", "行\u3000程", "a\u200bb", "ﬁ ½", "", "\ufffd😀", "  a  b "]
    for lines in (CHINESE, PERSIAN, odd):
        told = measure_ceiling(raw(lines), keeping, no_scores)
        assert told == {"lines": len(lines), "changed": 0}
    told = measure_ceiling(raw(["a", "x" * 200 + "a\u2581b" + "y" * 200]), keeping, in_chinese)
    assert told["changed"] == 1
    [(wanted, written)] = told["examples"]
    assert "xa\u2581by" in wanted
    assert "xa by" in written
    assert max(len(wanted), len(written)) == ceiling.EXAMPLE_CHARACTERS


def test_every_set_is_measured_on_no_more_lines_than_may_be_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewriting = tokenizer(tmp_path, "nmt_nfkc")
    for name, lines in (("valid", CHINESE), ("news", PERSIAN)):
        (tmp_path / f"{name}.target").write_text("".join(f"{line}\n" for line in lines))
    in_two = [Part("a", ("en", "zh"), 40), Part("b", ("en", "ja"), 20)]
    parts = {"valid": [Part("a", ("en", "zh"), 40), Part("b", ("en", "zh"), 20)], "news": in_two}
    whole = measure_ceilings(tmp_path, parts, rewriting, in_language)
    monkeypatch.setattr(ceiling, "MOST_SCORED", 7)
    monkeypatch.setattr(ceiling, "LINES_AT_ONCE", 11)
    few = measure_ceilings(tmp_path, parts, rewriting, in_language)
    sizes = {"valid": 60, "news in zh": 40, "news in ja": 20}
    assert list(whole) == list(few) == list(sizes)
    for name, size in sizes.items():
        assert whole[name]["scored"] == size
        assert few[name]["scored"] <= 7
        for key in ("lines", "changed", "examples"):
            assert few[name][key] == whole[name][key]
