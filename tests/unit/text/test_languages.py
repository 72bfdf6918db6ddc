"""Codes of every form are the same language, and an unknown one is said, once."""

import pytest

from mtrain.text.languages import find_language, piece_of_same_language


@pytest.mark.parametrize(
    ("base", "is_spaced", "codes"),
    [
        ("zh", False, "zh zho chi cmn zh-TW ZH_cn zho_Hans zho_Hant cmn-Hans zh-Hans-SG"),
        ("zh", True, "zh_Latn zho_Latn"),  # pinyin
        ("yue", False, "yue yue_Hant zh-yue"),
        ("wuu", False, "wuu"),
        ("nan", True, "nan_Latn"),
        ("ja", False, "ja jpn jpn_Jpan ja-JP ja_JP.UTF-8"),
        ("ko", True, "ko kor kor_Hang"),
        ("th", False, "th tha tha_Thai"),
        ("lo", False, "lo lao lao_Laoo"),
        ("km", False, "km khm khm_Khmr"),
        ("my", False, "my mya bur mya_Mymr"),
        ("bo", False, "bo bod tib bod_Tibt"),
        ("dz", False, "dz dzo dzo_Tibt"),
        ("shn", False, "shn shn_Mymr"),
        ("de", True, "de deu ger deu_Latn de-AT de_DE.UTF-8 DE"),
        ("fa", True, "fa fas per"),
        ("ar", True, "ar ara arb arb_Arab"),
        ("vi", True, "vi vie vie_Latn"),
    ],
)
def test_every_form_of_a_code_is_the_same_language(
    base: str, is_spaced: bool, codes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for code in codes.split():
        language = find_language(code)
        assert (language.base, language.is_spaced) == (base, is_spaced), code
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("code", "nearest"),
    [
        ("digits", None),
        ("", None),
        ("German", "de (German)"),
        ("chinese", "zh (Chinese)"),
        ("swahilli", "sw (Swahili)"),
        ("jp", "ja (Japanese)"),
        ("cn", "zh (Chinese)"),
        ("cz", "cs (Czech)"),
    ],
)
def test_an_unknown_code_is_said_once_with_the_nearest_and_has_spaces(
    code: str, nearest: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    find_language.cache_clear()
    assert find_language(code).is_spaced
    assert find_language(code).base == code
    told = capsys.readouterr().err
    assert told.count("warning:") == 1
    assert f"{code!r} is not a known language code" in told
    assert (f"did you mean {nearest}?" in told) if nearest else "did you mean" not in told


@pytest.mark.parametrize(
    ("piece", "same"),
    [
        (">>de<<", ">>deu<<"),
        ("<2zh>", "<2zh_Hans>"),
        ("de", "deu_Latn"),
        ("zh-TW", "zho_Hant"),
        ("__eng__", "__en__"),
        (">>fr<<", None),
        ("__deu__", None),
        ("digits", None),
        ("<legal>", None),
    ],
)
def test_a_piece_of_the_same_language_is_found_in_another_form(
    piece: str, same: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = [
        "de",
        "die",
        "</s>",
        ">>deu<<",
        "__en__",
        "<2zh_Hans>",
        "zho_Hant",
        "deu_Latn",
        "<2x>",
    ]
    assert piece_of_same_language(piece, pieces) == same
    assert capsys.readouterr().err == ""
