"""sacreBLEU's own test sets, as it lays them out on disk."""

from pathlib import Path

import pytest
from sacrebleu.dataset import DATASETS
from sacrebleu.utils import SACREBLEU_DIR

from mtrain.errors import UserError
from mtrain.evaluation.metrics import TEST_SETS, chosen_references
from mtrain.evaluation.test_sets import read_test_set


def write_set(folder: Path, name: str, **fields: str) -> None:
    """Write the fields of a set where sacreBLEU looks for them."""
    for field, text in fields.items():
        path = Path(DATASETS[name]._get_txt_file_path("en-de", field.replace("_", ":")))
        path = folder / path.relative_to(SACREBLEU_DIR)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_set_is_read_with_the_references_that_sacrebleu_scores_with(tmp_path: Path) -> None:
    fields = {"src": "a\nb\n", "ref_A": "x\ny\n", "ref_C": "u\nv\n", "docid": "1\n"}
    write_set(tmp_path, "wmt21", **fields)
    found = read_test_set("wmt21:en-de", tmp_path)
    assert found.languages == ("en", "de")
    assert (found.sources, found.references) == (["a", "b"], [["x", "y"]])
    assert chosen_references("wmt21", "en-de") == set(
        DATASETS["wmt21"]._get_langpair_allowed_refs("en-de")
    )
    write_set(tmp_path, "wmt14", src="a\n", ref="x\n")
    assert read_test_set("wmt14:en-de", tmp_path).references == [["x"]]
    assert Path(SACREBLEU_DIR) == TEST_SETS


@pytest.mark.parametrize("name", ["wmt14", "wmt14:", "wmt14:en", ":en-de", ""])
def test_a_name_needs_a_direction(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a set") as refused:
        read_test_set(name, tmp_path)
    assert "wmt14:en-de" in str(refused.value.hint)


def test_what_is_not_on_disk_is_refused_and_not_fetched(tmp_path: Path) -> None:
    write_set(tmp_path, "wmt14", src="a\n")
    for name in ("wmt14:en-de", "wmt14:de-en", "wmt99:en-de"):
        with pytest.raises(UserError, match="not on this machine") as refused:
            read_test_set(name, tmp_path)
        assert f"sacrebleu -t {name.partition(':')[0]} -l" in str(refused.value.hint)


def test_a_half_written_set_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path, "wmt14", src="a\nb\n", ref="x\n")
    with pytest.raises(UserError, match=r"has 1 lines but .* has 2"):
        read_test_set("wmt14:en-de", tmp_path)
