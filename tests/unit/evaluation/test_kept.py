"""Kept translations: read as written, and never half."""

import json
from pathlib import Path

import pytest

from mtrain.evaluation.kept import KeptTranslations, read_kept, write_kept
from mtrain.evaluation.scored import SetTexts

TEXTS = [
    SetTexts("valid", ("en", "de"), ["a\u2028b", ""], [["x", "\ufffd"]], ["</script>", ""]),
    SetTexts("valid", ("en", "fr"), ["c"], [["y"]], ["z"]),
]
KEPT = KeptTranslations("update-00000002", "0" * 64, {"beam_size": 3}, TEXTS)


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "valid.json"
    assert read_kept(path, "valid") is None
    write_kept(path, KEPT)
    assert read_kept(path, "valid") == KEPT


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: tree["sets"][0]["hypotheses"].pop(),
        lambda tree: tree.pop("checkpoint"),
        lambda tree: tree.update(format=99),
        None,
    ],
)
def test_a_damaged_file_is_told_of_and_not_read(
    damage: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "valid.json"
    write_kept(path, KEPT)
    tree = json.loads(path.read_text("utf-8"))
    if callable(damage):
        damage(tree)
        path.write_text(json.dumps(tree))
    else:
        path.write_bytes(path.read_bytes()[:-20])
    assert read_kept(path, "valid") is None
    assert str(path) in capsys.readouterr().err
