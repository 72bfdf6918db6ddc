"""Files named by URL: as paths, in the cache, and what is said where they cannot be had."""

import pickle
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import fsspec
import pytest

from mtrain.config import load_config
from mtrain.config.load import dump_config
from mtrain.decoding.journal import Journal
from mtrain.errors import UserError
from mtrain.remote import RemotePath, as_path, fetch, outgoing
from mtrain.text.lines import file_digest, read_lines, write_whole
from mtrain.text.records import table_kind
from tests.unit.config.test_load import SMALLEST, fail, load
from tests.web import Web, served


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home/.cache/mtrain"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A web server for the folder `pages`, where the file `text` has two lines."""
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/text").write_bytes(b"one\ntwo\n")
    with served(tmp_path / "pages") as server:
        yield server


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """The empty file system memory://."""
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


URLS = ("s3://bucket/a b/train.tsv.gz", "hdfs:///data/x", "https://h:8/a//b/./c?d=e", "hf://d/a@b/")


@pytest.mark.parametrize("url", URLS)
def test_a_url_stays_as_it_was_written(url: str) -> None:
    path = as_path(url)
    assert isinstance(path, RemotePath)
    assert str(path) == str(pickle.loads(pickle.dumps(path))) == f"{path}" == url
    assert path == as_path(url)
    assert path != as_path(f"{url}x")


@pytest.mark.parametrize("text", ["a/b.txt", "/a", "c:/x", "c://x", "-", "s3:", "a b://c", "://x"])
def test_anything_else_is_a_local_path(text: str) -> None:
    assert as_path(text) == Path(text)
    assert not isinstance(as_path(text), RemotePath)


def test_file_urls_are_local_and_suffixes_are_those_of_the_url() -> None:
    assert as_path("file:///a/b.txt") == Path("/a/b.txt")
    assert table_kind(as_path("s3://b/x.jsonl.gz")) == ".jsonl"


CONFIG = """\
run_dir: runs/a
data:
  source_lang: en
  target_lang: de
  train: [{source: "s3://$BUCKET/a.en", target: s3://b//a.de, alignments: "hf://d/x/a$$"}]
  valid: [{path: "https://host/b.tsv?x=1", name: b}]
  test: [{source: gs://b/c.en, target: gs://b/c.de, documents: s3://b/ids}]
tokenizer: {path: {source: memory://s.model, target: memory://t.model}}
"""


def test_a_configuration_keeps_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKET", "big")
    config = load(tmp_path, CONFIG, "data.valid.0.path=s3://b/c//d.tsv")
    train, valid = config.data.train[0], config.data.valid_corpora[0]
    assert str(getattr(train, "source", "")) == "s3://big/a.en"
    assert str(getattr(train, "target", "")) == "s3://b//a.de"
    assert str(getattr(valid, "path", "")) == "s3://b/c//d.tsv"
    (tmp_path / "written.yaml").write_text(dump_config(config))
    again = load_config(tmp_path / "written.yaml")
    assert again == config
    assert dump_config(again) == dump_config(config)
    assert "alignments: hf://d/x/a$$\n" in dump_config(config)


@pytest.mark.parametrize("key", ["run_dir", "data_dir"])
def test_a_folder_to_write_has_no_url(key: str, tmp_path: Path) -> None:
    told = fail(tmp_path, SMALLEST, f"{key}=s3://b/x")[0]
    assert told.endswith(f"{key}: s3://b/x: a local path is expected")


def test_a_remote_path_reads_as_the_file(web: Web, tmp_path: Path) -> None:
    path, original = as_path(f"{web.url}/text"), tmp_path / "pages/text"
    assert path.exists()
    assert path.is_file()
    assert path.stat().st_size == 8
    assert list(read_lines(path)) == [b"one", b"two"]
    assert path.resolve().read_bytes() == b"one\ntwo\n"
    assert file_digest(path) == file_digest(original)
    original.write_bytes(b"changed it\n")
    assert path.read_bytes() == b"one\ntwo\n"  # a process reads one version to its end
    assert web.sent["text"] == 1


def test_only_a_changed_file_is_fetched_again(web: Web, tmp_path: Path, cache: Path) -> None:
    url, original = f"{web.url}/text", tmp_path / "pages/text"
    first = fetch(url)
    before = first.stat()
    assert fetch(url).stat() == before
    original.write_bytes(b"changed it\n")
    second = fetch(url)
    assert second.read_bytes() == b"changed it\n"
    assert files_in(cache) == [second]
    web.undated = True
    assert {fetch(url).read_bytes(), fetch(url).read_bytes()} == {b"changed it\n"}
    original.write_bytes(b"CHANGED IT\n")
    assert fetch(url).read_bytes() == b"CHANGED IT\n"


def test_a_transfer_that_breaks_off_leaves_what_was_there(
    web: Web, tmp_path: Path, cache: Path
) -> None:
    web.broken_off.add("text")
    with pytest.raises(UserError, match=r"/text: the connection ended after 4 of 8 bytes"):
        fetch(f"{web.url}/text")
    assert files_in(cache) == []
    web.broken_off.clear()
    whole = fetch(f"{web.url}/text")
    (tmp_path / "pages/text").write_bytes(b"a longer text\n")
    web.broken_off.add("text")
    with pytest.raises(UserError, match="the connection ended"):
        fetch(f"{web.url}/text")
    assert files_in(cache) == [whole]
    assert whole.read_bytes() == b"one\ntwo\n"


def test_what_cannot_be_fetched_is_told(web: Web, memory: fsspec.AbstractFileSystem) -> None:
    web.forbidden.add("text")
    memory.pipe_file("/folder/file", b"")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/x"
        for url, told in (
            (f"{web.url}/missing", "there is no such file"),
            (f"{web.url}/text", "no permission"),
            (nobody, r"the transfer failed \(.*Connection refused"),
            ("http://host:port/x", "the transfer failed"),
            ("memory://missing", "there is no such file"),
            ("memory://folder", "this is a folder, a file was expected"),
            ("s4://bucket/x", r"the protocol s4 is unknown; did you mean s3\?\nknown: "),
        ):
            with pytest.raises(UserError, match=told) as caught:
                fetch(url)
            assert str(caught.value).startswith(f"{url}: ")


@pytest.mark.skipif(find_spec("paramiko") is not None, reason="paramiko is installed")
def test_a_missing_package_is_named() -> None:
    with pytest.raises(UserError, match=r"needs the package paramiko.*\n.*pip install paramiko"):
        fetch("sftp://host/x")


def test_an_output_arrives_whole_or_not_at_all(
    memory: fsspec.AbstractFileSystem, cache: Path
) -> None:
    path = as_path("memory://out/a.txt")
    with pytest.raises(TypeError), write_whole(path) as file:
        file.writelines([b"half", None])
    assert not memory.exists("/out/a.txt")
    with write_whole(path) as file:
        file.write(b"one\n")
        assert not memory.exists("/out/a.txt")
    assert fetch(str(path)).read_bytes() == b"one\n"
    with write_whole(path) as file:
        file.write(b"two\n")
    assert fetch(str(path)).read_bytes() == b"two\n"
    assert files_in(cache / "outputs") == []


def test_an_output_that_cannot_be_written_is_told_before_the_work(
    memory: fsspec.AbstractFileSystem,
) -> None:
    memory.pipe_file("/folder/file", b"")
    for url, told in (
        ("https://host/x", "a web page cannot be written"),
        ("memory://folder", "this is a folder"),
        ("s4://bucket/x", "s4 is unknown"),
    ):
        with pytest.raises(UserError, match=told), write_whole(as_path(url)):
            pytest.fail("it was opened")
        with pytest.raises(UserError, match=told), Journal(as_path(url)):
            pytest.fail("it was opened")


def test_an_output_that_does_not_arrive_is_kept(
    memory: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    """As when the network fails at the end: the same command sends it."""
    memory.pipe_file("/out", b"a file where a folder has to be")
    path = as_path("memory://out/a.txt")
    with (
        pytest.raises(UserError, match=rf"kept in {outgoing(path)}"),
        write_whole(path) as file,
    ):
        file.write(b"one\n")
    assert outgoing(path).read_bytes() == b"one\n"
    with (
        pytest.raises(UserError, match="no such folder or bucket"),
        write_whole(as_path(f"local://{tmp_path}/nowhere/a.txt")),
    ):
        pass

    with Journal(path) as journal:
        journal.begin({"model": 1})
        journal.append([b"two\n"], 1, {})
        with pytest.raises(UserError, match=rf"kept in {outgoing(path)}"):
            journal.finish()
    memory.rm_file("/out")
    with Journal(path) as journal:
        assert not journal.is_named()  # so that another command does not replace it
        assert journal.resumes({"model": 1})
        journal.begin({"model": 1})
        assert journal.num_lines == 1
        journal.finish()
    assert fetch(str(path)).read_bytes() == b"two\n"
    with Journal(path) as journal:
        assert journal.earlier is None
