"""What is damaged in a run folder is named, and where there is something to fall back on, taken.

The trained run has the checkpoints of updates 400 and 600; 600 is both the newest and the best.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, Finished, succeed, write_task

NEWEST, PREVIOUS = (f"run/checkpoints/update-{update:08}" for update in (600, 400))
READ_ALWAYS = ("model.safetensors", "state.json")
FILES = (*READ_ALWAYS, "training.safetensors", "manifest.json")
TEXT = b"3 1 2\n"
ONE_MORE_UPDATE = ("--set", "training.max_updates=401")


def flip(path: Path, place: int) -> None:
    """Flip the lowest bit of a byte."""
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-10]) and None,
    "emptied": lambda path: path.write_bytes(b"") and None,
    "removed": Path.unlink,
    "flipped in its header": lambda path: flip(path, 20),
    "flipped in its body": lambda path: flip(path, -30),
}

# each file and each damage once; tests/unit/checkpoints has every file with every damage
DAMAGED_FILES = dict(zip(("cut short", "flipped in its header", "flipped in its body", "emptied",
                          "removed"), (*FILES, "model.safetensors"), strict=True))  # fmt: skip
some_damage = pytest.mark.parametrize(("damage", "name"), DAMAGED_FILES.items())


def refused(finished: Finished, *words: str) -> None:
    """Check that a command ended in an error for the user that has these words."""
    assert finished.code == 2, finished.err
    assert "Traceback" not in finished.err
    for word in words:
        assert word in finished.err
    assert finished.out == ""


@some_damage
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(
    name: str, damage: str, warm: WarmCommandLine, trained_copy: Path
) -> None:
    DAMAGE[damage](trained_copy / NEWEST / name)
    named = f"checkpoint {NEWEST} is damaged: "
    for command in (("translate", "run"), ("score", "run")):
        used = succeed(warm, *command, stdin=TEXT)
        assert used.out
        if name in READ_ALWAYS:  # of the manifest, a part may be that of the training state
            assert named in used.err
            assert f"using {PREVIOUS}" in used.err
        if name == "training.safetensors":  # which nobody but training reads
            assert "damaged" not in used.err
            assert f"using {NEWEST}" in used.err
    gone_on = succeed(warm, "train", "config.yaml", *ONE_MORE_UPDATE)
    assert named in gone_on.err
    assert f"resuming from {PREVIOUS}" in gone_on.err
    assert "finished: 401 updates" in gone_on.err


@some_damage
def test_a_damaged_checkpoint_is_refused_where_there_is_no_other(
    name: str, damage: str, warm: WarmCommandLine, trained_copy: Path
) -> None:
    shutil.rmtree(trained_copy / PREVIOUS)
    DAMAGE[damage](trained_copy / NEWEST / name)
    uses = [("translate", "run"), ("score", "run")] if name in READ_ALWAYS else []
    for command in (*uses, ("train", "config.yaml")):
        refused(warm(*command, stdin=TEXT), f"error: checkpoint {NEWEST} is damaged: ")
    assert (trained_copy / NEWEST).is_dir()


def test_a_damaged_checkpoint_that_is_asked_for_is_refused(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    flip(trained_copy / PREVIOUS / "model.safetensors", -1)
    asked = warm("translate", "run", "--checkpoint", Path(PREVIOUS).name, stdin=TEXT)
    refused(asked, f"{PREVIOUS} is damaged: model.safetensors")
    succeed(warm, "translate", "run", stdin=TEXT)


def test_a_checkpoint_of_a_newer_format_is_named_and_the_one_before_it_taken(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    path = trained_copy / NEWEST / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({**manifest, "format": manifest["format"] + 2}))
    used = succeed(warm, "translate", "run", stdin=TEXT)
    assert f"{NEWEST} is damaged: its manifest.json is not of format" in used.err
    assert f"using {PREVIOUS}" in used.err


def test_a_damaged_checkpoint_is_set_aside_and_takes_no_whole_ones_place(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    """It is newer, and was better, than all that a run that goes on will write at first."""
    flip(trained_copy / NEWEST / "model.safetensors", -1)
    damaged = (trained_copy / NEWEST / "model.safetensors").read_bytes()
    scarce = ("--set", "training.keep_last=1", "--set", "training.save_every=1")
    said = succeed(warm, "train", "config.yaml", *scarce, "--set", "training.max_updates=402").err
    assert f"{NEWEST} is kept as damaged-update-00000600" in said
    aside = trained_copy / "run/checkpoints/damaged-update-00000600"
    assert (aside / "model.safetensors").read_bytes() == damaged
    for command in (("translate", "run"), ("train", "config.yaml", *ONE_MORE_UPDATE)):
        assert "damaged" not in succeed(warm, *command, stdin=TEXT).err


@pytest.mark.parametrize("last_line", [b'{"kind": "train", "upd', b"\xff\x00\n", b"[]\n", b"\n"])
def test_a_torn_line_of_the_log_does_not_stop_training(
    last_line: bytes, warm: WarmCommandLine, trained_copy: Path
) -> None:
    log = trained_copy / "run" / "metrics.jsonl"
    before = log.read_bytes()
    log.write_bytes(before + last_line)
    succeed(warm, "train", "config.yaml")
    assert log.read_bytes() == before


@pytest.fixture(scope="module")
def other_run(tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """A run with another tokenizer and a wider model."""
    folder = tmp_path_factory.mktemp("other")
    write_task(folder, {"train": 300, "valid": 5, "test": 5}, seed=2)
    config = TINY_CONFIG.replace("max_updates: 40", "max_updates: 1")
    (folder / "config.yaml").write_text(config.replace("d_model: 64", "d_model: 32"))
    warm = WarmCommandLine(folder)
    succeed(warm, "prepare", "config.yaml")
    succeed(warm, "train", "config.yaml")
    return folder / "run"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["run/config.yaml", "run_dir is missing", "data is missing"]),
        (b"\x00\x01\x02", ["run/config.yaml", "not YAML"]),
        (b"\xff\xfe", ["run/config.yaml", "not UTF-8"]),
        (b"run_dir: run\ndata:\n  source_lang: digits\n  tar", ["run/config.yaml:4", "not YAML"]),
        (b"just words\n", ["run/config.yaml"]),
    ],
    ids=["emptied", "binary", "not UTF-8", "cut short", "words"],
)
def test_a_damaged_config_is_refused(
    content: bytes, words: list[str], warm: WarmCommandLine, trained_copy: Path
) -> None:
    (trained_copy / "run" / "config.yaml").write_bytes(content)
    for command in (("translate", "run"), ("score", "run")):
        refused(warm(*command, stdin=TEXT), *words)
    refused(warm("train", "config.yaml"), "run/config.yaml: not written by `mtrain train`")


def test_the_config_of_another_run_is_refused(
    warm: WarmCommandLine, trained_copy: Path, other_run: Path
) -> None:
    shutil.copy(other_run / "config.yaml", trained_copy / "run" / "config.yaml")
    for command in (("translate", "run"), ("score", "run")):
        refused(warm(*command, stdin=TEXT), "config.yaml and its checkpoints", NEWEST)
    refused(warm("train", "config.yaml"), "run belongs to another", "model.d_model: 32 -> 64")


@pytest.mark.parametrize("damage", ["removed", "flipped in its body"])
def test_a_damaged_tokenizer_is_refused_and_training_restores_it(
    damage: str, warm: WarmCommandLine, trained_copy: Path
) -> None:
    wanted = succeed(warm, "translate", "run", stdin=TEXT).out
    DAMAGE[damage](trained_copy / "run" / "tokenizer" / "shared.model")
    for command in (("translate", "run"), ("score", "run")):
        refused(warm(*command, stdin=TEXT), "run/tokenizer")
    succeed(warm, "train", "config.yaml")
    assert succeed(warm, "translate", "run", stdin=TEXT).out == wanted


def test_the_tokenizer_of_another_run_is_refused(
    warm: WarmCommandLine, trained_copy: Path, other_run: Path
) -> None:
    other = other_run / "tokenizer" / "shared.model"
    shutil.copy(other, trained_copy / "run" / "tokenizer" / "shared.model")
    for command in (("translate", "run"), ("score", "run")):
        refused(warm(*command, stdin=TEXT), "run/tokenizer: not the tokenizer that", NEWEST)
    shutil.copy(other, trained_copy / "run" / "data" / "tokenizer" / "shared.model")
    refused(warm("train", "config.yaml"), "run/data")


@pytest.mark.parametrize(
    ("split", "damage", "name"),
    [
        ("train", "cut short", "source.tokens"),
        ("valid", "emptied", "target.tokens"),
        ("train", "removed", "source.offsets"),
        ("valid", "flipped in its body", "source.tokens"),
    ],
)
def test_a_damaged_token_store_is_refused(
    split: str, damage: str, name: str, warm: WarmCommandLine, trained_copy: Path
) -> None:
    DAMAGE[damage](trained_copy / "run" / "data" / split / name)
    refused(warm("train", "config.yaml"), f"run/data/{split}", "damaged")


def test_a_damaged_test_set_gives_no_score(warm: WarmCommandLine, trained_copy: Path) -> None:
    path = trained_copy / "run/test/held-out.target"
    path.write_bytes(b"one more\n" + path.read_bytes())
    refused(warm("score", "run"), "held-out.source has 60 lines but", "held-out.target has 61")
    path.unlink()
    refused(warm("score", "run"), "run/test/held-out.target: there is no such file")
