"""Test scripts/dirt.py: what it dirties, and its table on a small corpus."""

import random
import subprocess
import sys
from pathlib import Path

from tests.unit.scripts.loading import load_script

SCRIPT = Path(__file__).parents[3] / "scripts" / "dirt.py"
NAMES = ("Anna", "Boris", "Clara", "David", "Émile", "Felix", "Greta", "Hugo", "Irène", "Jonas")


script = load_script("dirt")


def clean(count: int) -> list[tuple[str, str]]:
    chosen = random.Random(1)
    numbers = chosen.sample(range(20, 9000), count)
    names = [chosen.sample(NAMES, 2) for _ in numbers]
    return [(f"{one} gave {number} apples to {two}.", f"{one} gab {two} {number} Äpfel.")
            for number, (one, two) in zip(numbers, names, strict=True)]  # fmt: skip


def test_every_kind_dirties_its_share_and_leaves_the_others() -> None:
    pairs = clean(300)
    for kind in script.KINDS:
        dirtied, count = script.dirty(pairs, kind)
        assert (dirtied, count) == script.dirty(pairs, kind)
        assert count == 6, kind
        assert sum(pair not in pairs for pair in dirtied) == count
        added = count if kind in script.ADDED else 0
        assert len(dirtied) == len(pairs) + added
        assert all(source.strip() and target.strip() for source, target in dirtied)


def test_the_table_tells_what_was_found_of_each_kind(tmp_path: Path) -> None:
    sources, targets = zip(*clean(320), strict=True)
    for name, lines in (("a.en", sources), ("a.de", targets)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    command = [sys.executable, SCRIPT, tmp_path / "a.en", tmp_path / "a.de", tmp_path / "work",
               "--languages", "en", "de", "--checks", "letters", "html", "--kinds", "symbols",
               "HTML tag"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[2:] == [
        "| none | 300 | 0.00 % |  |",
        "| symbols | 6 | 100.00 % | letters 6 |",
        "| HTML tag | 6 | 100.00 % | html 6 |",
    ]
