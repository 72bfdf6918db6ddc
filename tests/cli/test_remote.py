"""Inputs and outputs that are named by URL, through the verbs."""

import json
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import contents
from tests.cli.warm import WarmCommandLine, WarmProcess, mtrain_with
from tests.conftest import TINY_CONFIG, succeed, write_task
from tests.web import Web, served


class CachingCommandLine(WarmCommandLine):
    """The command line with a cache of its own, in the folder `home`."""

    def start(self, *arguments: object, stdin: bytes = b"") -> WarmProcess:
        """Start a command."""
        variables = {"HOME": str(self.folder / "home")}
        command = mtrain_with(*arguments)
        self._started.append(WarmProcess(self.folder, command, stdin, variables))
        return self._started[-1]


@pytest.fixture
def caching(tmp_path: Path, server: None) -> Iterator[CachingCommandLine]:
    """The command line with a cache of its own."""
    with closing(CachingCommandLine(tmp_path)) as command_line:
        yield command_line


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server for the folder `pages`, which is empty."""
    (tmp_path / "pages").mkdir()
    with served(tmp_path / "pages") as server:
        yield server


def prepared(run: Path) -> dict[str, bytes]:
    """Return the prepared files but for the manifest, which has paths and times."""
    files = contents(run / "data")
    del files["manifest.json"]
    return files


def test_corpora_on_the_web_are_those_on_the_disk(caching: CachingCommandLine, web: Web) -> None:
    folder, pages = caching.folder, caching.folder / "pages"
    write_task(pages, {"train": 300, "valid": 20, "test": 20})
    for name, place in (("files", "pages"), ("web", web.url)):
        config = TINY_CONFIG.replace("run_dir: run", f"run_dir: {name}")
        for split in ("train", "valid", "test"):
            config = config.replace(f" {split}.", f" {place}/{split}.")
        (folder / f"{name}.yaml").write_text(config)
        said = succeed(caching, "prepare", f"{name}.yaml").err
        assert said.count(": fetched, ") == (6 if name == "web" else 0)
    assert prepared(folder / "web") == prepared(folder / "files")
    inputs = json.loads((folder / "web/data/manifest.json").read_text())["inputs"]
    assert inputs[0]["path"] == f"{web.url}/train.digits"

    moved = succeed(caching, "prepare", "web.yaml", "--set", "run_dir=files").err
    assert "nothing changed" in moved
    assert "fetched" not in moved

    changed = (pages / "train.words").read_bytes().replace(b"three", b"tree")
    (pages / "train.words").write_bytes(changed)
    web.broken_off.add("train.words")
    before = contents(folder / "web")
    refused = caching("prepare", "web.yaml")
    assert refused.code == 2
    half = f"{len(changed) // 2:,} of {len(changed):,} bytes"
    assert f"error: {web.url}/train.words: the connection ended after {half}" in refused.err
    assert "Traceback" not in refused.err
    assert contents(folder / "web") == before
    web.broken_off.clear()
    (pages / "t.model").write_bytes((folder / "files/data/tokenizer/shared.model").read_bytes())
    given = "--set", f"tokenizer.path={web.url}/t.model"
    assert succeed(caching, "prepare", "web.yaml", *given).err.count(": fetched, ") == 2
    assert prepared(folder / "web") != prepared(folder / "files")


def test_translations_arrive_whole_also_after_a_kill(
    trained_run: Path, caching: CachingCommandLine, web: Web
) -> None:
    folder, far = caching.folder, caching.folder / "far"
    far.mkdir()
    lines = (trained_run.parent / "train.digits").read_bytes().splitlines(keepends=True)[:300]
    (folder / "pages/in").write_bytes(b"".join(lines))
    options = "--beam-size", "1", "--set", "decoding.buffer_lines=20"
    succeed(caching, "translate", trained_run, "pages/in", "--output", "pages/near", *options)
    # fsspec's `local` stands for any protocol: its files are sent like all others
    command = ("translate", trained_run, f"{web.url}/in", "--output", f"local://{far}/out",
               "--report", f"local://{far}/report", *options)  # fmt: skip

    running = caching.start(*command)
    running.wait_until(lambda: any((folder / "home").rglob(".out.journal")))
    running.send(signal.SIGKILL)
    assert running.finish().code == -signal.SIGKILL
    assert not any(far.iterdir())
    said = succeed(caching, *command).err
    assert "resuming after" in said
    assert f"local://{far}/out: sent, " in said
    assert (far / "out").read_bytes() == (folder / "pages/near").read_bytes()
    assert (far / "report").read_bytes().count(b"\n") == 300
    kept = (folder / "home/.cache/mtrain/outputs").rglob("*")
    assert not [path for path in kept if path.is_file()]

    scores = [
        succeed(caching, "score", "--hypotheses", f"{place}/near", "--references", f"{place}/in")
        for place in ("pages", web.url)
    ]
    assert scores[0].out.replace("pages/", f"{web.url}/") == scores[1].out
    refused = caching("translate", trained_run, f"{web.url}/no", "--output", f"local://{far}/no")
    assert refused.code == 2
    assert refused.err.startswith(f"error: {web.url}/no: there is no such file\n")
