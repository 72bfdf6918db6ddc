"""`mtrain prepare` with the checks of data.filters.checks: what they drop, and would drop."""

import importlib.util
import random
from pathlib import Path
from typing import get_args

import pytest

from mtrain.config.data import Check
from mtrain.data.folders import DataFolder
from tests.cli.test_prepare import CONFIG, Pairs, manifest, prepared, refused, write_pairs
from tests.conftest import CommandLine, succeed

HAS_LANGID = importlib.util.find_spec("py3langid") is not None
CHECKS = [check for check in get_args(Check) if HAS_LANGID or check != "language"]
ALL = ("--set", f"data.filters.checks=[{', '.join(CHECKS)}]")
NAMES = ("Anna", "Boris", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Irene", "Jonas")
GERMAN = "Das ist ein Satz auf Deutsch über das Wetter, in der falschen Spalte"


def clean(count: int, seed: int) -> Pairs:
    """Return different pairs without a fault."""
    chosen = random.Random(seed)
    pairs = {}
    while len(pairs) < count:
        one, two = chosen.sample(NAMES, 2)
        number = chosen.randrange(20, 5000)
        pairs[one, two, number] = (
            f"{one} gave {number} of the red apples to {two}.",
            f"{one} schenkte {two} genau {number} von den roten Äpfeln.",
        )
    return list(pairs.values())


DIRTY: dict[str, Pairs] = {
    "letters": [(f"A table of apples {n}", f"| {n} | -- | ** |") for n in range(20, 23)],
    "html": [(f"A <b>good</b> apple of {name}", f"Ein guter Apfel von {name}") for name in NAMES],
    "script": [(f"A good apple, {name}", f"Хорошее яблоко, {name}") for name in NAMES[:4]],
    "numbers": [(f"{name} has 77 apples", f"{name} hat 78 Äpfel") for name in NAMES[:7]],
    "sentences": [(f"{n} go. All come. Then sleep.", f"{n} gehen, kommen, ruhen.")
                  for n in NAMES[:2]],
    "near_duplicates": [(source.upper(), target.replace(".", "!"))
                        for source, target in clean(300, 1)[:6]],
}  # fmt: skip
if HAS_LANGID:
    DIRTY["language"] = [(f"{GERMAN}, {n}", f"{GERMAN} - sagt {n}") for n in NAMES[:5]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clean corpus with some dirty pairs, and held-out text as dirty as that."""
    dirt = [pair for pairs in DIRTY.values() for pair in pairs]
    write_pairs(tmp_path, "train", [*clean(1000, 1), *dirt])
    for name, seed in (("valid", 2), ("test", 3)):
        write_pairs(tmp_path, name, [*clean(20, seed), ("> 1 <", "12 * 13"), ("A <b>", "B")])
    (tmp_path / "config.yaml").write_text(CONFIG.replace("320", "380"))
    return tmp_path


def test_every_check_counts_and_shows_what_it_drops(warm: CommandLine, folder: Path) -> None:
    finished = succeed(warm, "prepare", "config.yaml", *ALL)
    counts = manifest(folder)["filtered"][0]["counts"]
    found = {reason: count for reason, count in counts.items() if count and reason != "kept"}
    assert found == {check: len(pairs) for check, pairs in DIRTY.items()}
    assert counts["kept"] == 1000
    for check, pairs in DIRTY.items():
        assert f"         {len(pairs)} dropped: {check}, for example\n" in finished.out
        assert f"{pairs[0][0]!r} | {pairs[0][1]!r}" in finished.out
    assert "would be dropped" not in finished.out
    assert "valid    22 pairs" in finished.out  # held-out text is kept as it is
    assert "test     22 pairs in news" in finished.out
    assert succeed(warm, "prepare", "config.yaml", *ALL).out == finished.out


def test_checks_that_are_left_out_say_what_they_would_drop(warm: CommandLine, folder: Path) -> None:
    finished = succeed(warm, "prepare", "config.yaml", "--set", "data.filters.checks=[html]")
    filtered, found = manifest(folder)["filtered"][0], manifest(folder)["would_drop"][0]
    assert filtered["counts"]["html"] == len(DIRTY["html"])
    assert set(filtered["counts"]) & set(get_args(Check)) == {"html"}
    num_pairs = 1000 + sum(map(len, DIRTY.values()))
    others = DIRTY.keys() - {"html", "language"}  # which sees the first thousand, clean ones
    assert {check: told["count"] for check, told in found.items()} == {
        check: len(DIRTY[check]) for check in others
    }
    for check in others:
        source, target = DIRTY[check][0]
        assert (
            f"         {len(DIRTY[check])} of the first {num_pairs:,} pairs would be dropped with "
            f"data.filters.checks: [{check}], "
        ) in finished.out
        assert f"           {source!r} | {target!r}\n" in f"{finished.out}\n"
    assert succeed(warm, "prepare", "config.yaml").out != finished.out
    assert "html" in manifest(folder)["would_drop"][0]
    again = succeed(warm, "prepare", "config.yaml")
    assert "nothing to do" in again.err


@pytest.mark.skipif(not HAS_LANGID, reason="needs the extra langid")
def test_the_language_is_tried_on_the_first_thousand_pairs(warm: CommandLine, folder: Path) -> None:
    write_pairs(folder, "train", [*DIRTY["language"], *clean(1000, 1)])
    out = succeed(warm, "prepare", "config.yaml").out
    assert "5 of the first 1,000 pairs would be dropped with data.filters.checks: [language]" in out


def test_checks_that_find_nothing_change_nothing(warm: CommandLine, folder: Path) -> None:
    write_pairs(folder, "train", clean(1000, 1))
    succeed(warm, "prepare", "config.yaml")
    without = prepared(folder)
    succeed(warm, "prepare", "config.yaml", *ALL)
    among = prepared(folder)
    for told in (without, among):
        told["manifest"].pop("settings")
    assert among == without
    assert without["manifest"]["would_drop"] == [{}]


def test_old_data_are_reported_as_before(warm: CommandLine, folder: Path) -> None:
    out = succeed(warm, "prepare", "config.yaml").out
    path = DataFolder(folder / "run" / "data").manifest_path
    text = path.read_text()
    start = text.index('"would_drop"')
    path.write_text(text[:start] + text[start:].replace("would_drop", "something", 1))
    told = succeed(warm, "prepare", "config.yaml")
    assert "nothing to do" in told.err
    lines, rest = out.splitlines(), told.out.splitlines()
    begin = next(number for number, line in enumerate(lines) if "would be dropped" in line)
    assert "would be dropped" not in told.out
    assert 0 < begin <= len(rest) < len(lines)
    assert rest[:begin] == lines[:begin]
    assert rest[begin:] == lines[len(lines) - len(rest) + begin :]


def test_without_the_extra_the_language_is_not_asked_for(
    mtrain: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that Python finds first stands for one that is not installed."""
    (folder / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *of: None if name == 'py3langid' else found(name, *of)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{Path(__file__).parents[2]}")
    message = refused(mtrain("prepare", "config.yaml", "--set", "data.filters.checks=[language]"))
    assert "data.filters.checks: language needs the package py3langid" in message
    assert "pip install 'mtrain[langid]'" in message
    assert "language" not in succeed(mtrain, "prepare", "config.yaml").out
