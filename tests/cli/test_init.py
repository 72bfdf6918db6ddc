"""`mtrain init` for real: what it writes can be prepared and trained, and what it refuses."""

import json
import random
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mtrain.config import Config, load_config
from tests.cli.conftest import contents
from tests.cli.warm import WarmCommandLine
from tests.conftest import Finished, succeed

Pair = tuple[str, str]
WORDS = {
    "dog": "Hund", "man": "Mann", "boy": "Junge", "tree": "Baum", "car": "Wagen",
    "table": "Tisch", "cake": "Kuchen", "bird": "Vogel", "ball": "Ball", "hat": "Hut",
}  # fmt: skip
SMALLER = ("training.max_updates=2", "model.d_model=32", "model.ffn_dim=32",
           "model.encoder_layers=1", "model.decoder_layers=1", "decoding.beam_size=1",
           "decoding.max_length_ratio=1")  # fmt: skip


def make_pairs(number: int) -> list[Pair]:
    """Return pairs with different sources; some pairs are dirty."""
    generator, pairs = random.Random(1), dict[str, str]()
    while len(pairs) < number:
        words, count = generator.choices(sorted(WORDS), k=3), generator.randrange(20, 400)
        source = "The {} sees the {} and the {} of {} people.".format(*words, count)
        target = "Der {} sieht den {} und den {} von {} Leuten.".format(
            *map(WORDS.__getitem__, words), count + (len(pairs) % 50 == 0)  # another number
        )  # fmt: skip
        pairs[source] = target
    return list(pairs.items())


PAIRS = make_pairs(1500)


def two_files(folder: Path) -> list[str]:
    for side, name in enumerate(("train.en", "train.de")):
        (folder / name).write_text("".join(f"{pair[side]}\n" for pair in PAIRS))
    return ["train.en", "train.de"]


def tsv(folder: Path) -> list[str]:
    (folder / "x.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))
    return ["x.tsv", "--source-lang", "en", "--target-lang", "de"]


def jsonl(folder: Path) -> list[str]:
    rows = (json.dumps({"id": "1", "en": source, "de": target}) for source, target in PAIRS)
    (folder / "x.jsonl").write_text("".join(f"{row}\n" for row in rows))
    return ["x.jsonl"]


def with_odd_names(folder: Path) -> list[str]:
    """Write files whose names mean something to YAML and to the configuration."""
    two_files(folder)
    for old, new in (("train.en", "a: #$b.en"), ("train.de", "c 'd'.de")):
        (folder / old).rename(folder / new)
    return ["a: #$b.en", "c 'd'.de"]


def comments(folder: Path) -> dict[str, str]:
    """Return the comment of each key."""
    lines = (folder / "my-model.yaml").read_text().splitlines()
    parts = (line.strip().partition(" # ") for line in lines)
    return {line.partition(":")[0]: comment for line, _, comment in parts if comment}


@pytest.mark.parametrize("write", [two_files, tsv, jsonl, with_odd_names], ids=lambda w: w.__name__)
def test_what_it_writes_is_prepared_and_trained_as_it_says(
    write: Callable[[Path], list[str]], warm: WarmCommandLine, tmp_path: Path
) -> None:
    said = succeed(warm, "init", *write(tmp_path), "--minutes", "30")
    lines = said.out.splitlines()
    assert [line.split()[1] for line in lines] == [
        "prepare",
        "train",
        "train",
        "translate",
        "score",
    ]
    assert all(line.startswith("mtrain ") for line in lines)
    assert "1,500; 1,500 different sources" in said.err
    assert "machine   1 CPU core" in said.err
    config = load_config(tmp_path / "my-model.yaml")
    assert config.data.directions == [("en", "de")]
    assert config.run_dir == Path("runs/my-model")
    assert config.training.max_minutes == 30
    assert config.data.filters.checks == ("numbers",)
    assert "numbers 30 of 1,500" in comments(tmp_path)["filters"]

    small = [word for override in SMALLER for word in ("--set", override)]
    report = succeed(warm, *shlex.split(lines[0])[1:], *small).out
    assert "valid    75 pairs taken from train" in report
    assert "test     75 pairs taken from train in test" in report
    assert "an update" in succeed(warm, *shlex.split(lines[1])[1:], *small).out
    if write is two_files:
        succeed(warm, *shlex.split(lines[2])[1:], *small)
        (tmp_path / "new.en").write_text("The dog.\n")
        for line in lines[3:]:
            succeed(warm, *shlex.split(line)[1:])
        assert (tmp_path / "new.de").read_text().count("\n") == 1


def test_every_choice_has_a_reason(warm: WarmCommandLine, tmp_path: Path) -> None:
    succeed(warm, "init", *two_files(tmp_path))
    reasons = comments(tmp_path)
    for key in ("source_lang", "train", "valid", "test", "filters", "vocab_size", "encoder_layers",
                "dropout", "max_minutes", "optimizer", "valid_every"):  # fmt: skip
        assert reasons[key], key
    assert "1,500 pairs en-de, 60 minutes" in (tmp_path / "my-model.yaml").read_text()


def test_the_settings_follow_name_and_minutes(warm: WarmCommandLine, tmp_path: Path) -> None:
    files, configs = two_files(tmp_path), dict[str, Config]()
    for name, minutes in (("one.two", "0.5"), ("b", "600")):
        succeed(warm, "init", *files, "--name", name, "--minutes", minutes)
        configs[name] = load_config(tmp_path / f"{name}.yaml")
    short, long = configs.values()
    assert short.run_dir == Path("runs/one.two")
    assert short.decoding.repetition_guard
    assert short.model.dropout < long.model.dropout


def archived(folder: Path) -> list[str]:
    two_files(folder)
    with tarfile.open(folder / "x.en", "w") as archive:
        archive.add(folder / "train.en")
    return ["x.en", "train.de"]


def web_page(folder: Path) -> list[str]:
    two_files(folder)
    (folder / "x.en").write_text("<!doctype html>\n<html>\n")
    return ["x.en", "train.de"]


def shorter(folder: Path) -> list[str]:
    two_files(folder)
    (folder / "x.en").write_text("".join(f"{source}\n" for source, _ in PAIRS[:-1]))
    return ["x.en", "train.de"]


def of_few_pairs(folder: Path) -> list[str]:
    two_files(folder)
    for name in ("train.en", "train.de"):
        lines = (folder / name).read_text().splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:999]))
    return ["train.en", "train.de"]


def without_a_good_pair(folder: Path) -> list[str]:
    two_files(folder)
    targets = [source if n % 2 else "" for n, (source, _) in enumerate(PAIRS)]
    (folder / "train.de").write_text("".join(f"{target}\n" for target in targets))
    return ["train.en", "train.de"]


def unnamed(folder: Path) -> list[str]:
    two_files(folder)
    (folder / "train.en").write_text("".join(f"{n}\n" for n in range(1500)))
    (folder / "train.en").rename(folder / "train.txt")
    return ["train.txt", "train.de"]


def after(*options: str) -> Callable[[Path], list[str]]:
    return lambda folder: [*two_files(folder), *options]


REFUSED: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "a missing file": (lambda _: ["a.en", "b.de"], "a.en: there is no such file"),
    "an archive": (archived, "this is a tar archive"),
    "a web page": (web_page, "this is an HTML page"),
    "unequal files": (shorter, "x.en has 1499 lines but train.de has 1500"),
    "few pairs": (of_few_pairs, "999 different sources; with fewer than 1,000"),
    "no good pair": (without_a_good_pair, "none of 1,500 pairs can be used: 750 are empty on a "
                     "side, 750 are the same on both sides"),
    "no language": (unnamed, "the language of the source cannot be told"),
    "an unknown kind": (lambda folder: two_files(folder)[:1], "kind cannot be told from its name"),
    "three files": (after("c.fr"), "3 files are given"),
    "one file twice": (lambda folder: [two_files(folder)[0]] * 2, "given as both sides"),
    "a path as name": (after("--name", "../x"), "--name: '../x' is no file name"),
    "no name": (after("--name", ""), "--name: '' is no file name"),
    "no minutes": (after("--minutes", "0"), "--minutes: 0 minutes are not possible"),
    "negative minutes": (after("--minutes=-5"), "--minutes: -5 minutes are not possible"),
    "endless minutes": (after("--minutes", "inf"), "--minutes: inf minutes are not possible"),
    "a language that is none": (after("--source-lang", "e n"), "'e n' is not a known language"),
    "an empty language": (after("--target-lang", ""), "'' is not a known language code"),
    "a mistyped language": (after("--target-lang", "germn"), "'germn' is not a known language "
                            "code, and --target-lang names the language of the target; did you "
                            "mean de (German)?"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_nothing_written(
    case: str, warm: WarmCommandLine, tmp_path: Path
) -> None:
    write, message = REFUSED[case]
    arguments = write(tmp_path)
    before = contents(tmp_path)
    must_refuse(warm("init", *arguments), message)
    assert contents(tmp_path) == before


def must_refuse(finished: Finished, message: str) -> None:
    assert finished.code == 2, finished.err
    assert "Traceback" not in finished.err
    assert "error: " in finished.err
    assert message in finished.err
    assert finished.out == ""


@pytest.mark.parametrize("place", ["my-model.yaml", "runs/my-model/x"])
def test_nothing_that_exists_is_overwritten(
    place: str, warm: WarmCommandLine, tmp_path: Path
) -> None:
    files = two_files(tmp_path)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("mine")
    before = contents(tmp_path)
    must_refuse(warm("init", *files), "exists already; nothing was changed")
    assert contents(tmp_path) == before


def test_a_warning_of_another_language_can_be_followed(
    warm: WarmCommandLine, tmp_path: Path
) -> None:
    pytest.importorskip("py3langid")
    files = two_files(tmp_path)
    (tmp_path / "train.en").rename(tmp_path / "train.fr")
    call = ("init", "train.fr", files[1], "--name", "q")
    told = succeed(warm, *call).err
    assert "the source is called fr, but " in told
    mended = "remove q.yaml and start again with --source-lang CODE --target-lang CODE"
    assert mended in " ".join(told.split())
    (tmp_path / "q.yaml").unlink()
    told = succeed(warm, *call, "--source-lang", "en", "--target-lang", "de").err
    assert "is called" not in told
    assert load_config(tmp_path / "q.yaml").data.directions == [("en", "de")]


def test_a_field_of_another_language_is_to_be_renamed(
    warm: WarmCommandLine, tmp_path: Path
) -> None:
    pytest.importorskip("py3langid")
    rows = (json.dumps({"fr": source, "de": target}) for source, target in PAIRS)
    (tmp_path / "x.jsonl").write_text("".join(f"{row}\n" for row in rows))
    told = " ".join(succeed(warm, "init", "x.jsonl").err.split())
    assert "remove my-model.yaml and start again with its field renamed" in told
