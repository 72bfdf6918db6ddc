"""Files elsewhere, named by URL: inputs are fetched into a cache, outputs are sent when complete.

The only file that imports `fsspec`, which reads and writes s3://, gs://, hf:// and more, each with
a package of its own. http(s):// is read without one. Knows nothing of what the files hold.

    ~/.cache/mtrain/inputs/URL/VERSION    the newest version of an input; the URL as a digest
    ~/.cache/mtrain/outputs/URL/NAME      an output that is being written, or could not be sent
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path, PosixPath
from typing import Any, NamedTuple

from mtrain.console import progress, say
from mtrain.errors import Interrupted, UserError, nearest_name

URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://.")  # one letter would be a drive of Windows
WEB = ("http", "https")
BUCKETS = ("s3", "s3a")
BLOCK_BYTES = 1 << 20
SECONDS_TO_WAIT = 60.0  # for a web server
# What the file systems call the signs that a file has changed; its size is compared as well.
VERSION_KEYS = ("ETag", "etag", "md5Hash", "content_md5", "blob_id", "generation", "LastModified",
                "last_modified", "modified", "mtime", "updated", "created", "sha")  # fmt: skip
CREDENTIALS = {
    "s3": "S3's credentials are those of the AWS command line: ~/.aws, AWS_PROFILE or "
    "AWS_ACCESS_KEY_ID; another server than Amazon's is AWS_ENDPOINT_URL",
    "gs": "log in with: gcloud auth application-default login",
    "hf": "log in with: hf auth login",
}


class RemotePath(PosixPath):
    """An input elsewhere: as text its URL, and to whatever opens it a copy, fetched at first use.

    Opening it raises UserError if it cannot be fetched. An output is written to `outgoing`.
    """

    _url = ""  # of paths made of this one, as its parent; from Python 3.12 on they are plain ones

    def __new__(cls, url: str) -> "RemotePath":
        path = super().__new__(cls, url)
        path._url = url  # a path has one / where a URL has two
        return path

    def __str__(self) -> str:
        return self._url or super().__str__()

    def __fspath__(self) -> str:
        return os.fspath(_fetch_once(self._url)) if self._url else super().__fspath__()

    def __reduce__(self) -> tuple[type["RemotePath"], tuple[str]]:
        return RemotePath, (self._url,)

    def with_segments(self, *segments: str | os.PathLike[str]) -> Path:
        """Return what is made of parts of the URL, such as its name without a suffix."""
        return Path(*segments)


def as_path(text: str) -> Path:
    """Return the path of a local file, or of one elsewhere, which has a URL."""
    found = URL.match(text)
    if found is None:
        return Path(text)
    return Path(text.removeprefix("file://")) if found[1] == "file" else RemotePath(text)


@cache
def _fetch_once(url: str) -> Path:
    """Return the local copy, the same one for all that this process reads."""
    return fetch(url)


def fetch(url: str) -> Path:
    """Return a local copy of the present content, fetched if the copy at hand is of another.

    Raises UserError if there is no such file, or if it cannot be fetched to its end.
    """
    folder = _folder("inputs", url)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be fetching the same file
        with _explained(url):
            source = _open_web(url) if _protocol(url) in WEB else _open_file_system(url)
        copy = folder / (source.version or "unknown")
        with closing(source.stream):
            if source.version and copy.is_file():
                return copy
            try:
                num_bytes = _download(source, url, folder / "part")
                os.replace(folder / "part", copy)
            finally:
                (folder / "part").unlink(missing_ok=True)
        for path in folder.iterdir():
            if path.name not in ("lock", copy.name):
                path.unlink()
    say(f"{url}: fetched, {num_bytes:,} bytes")
    return copy


class _Source(NamedTuple):
    """An open file elsewhere."""

    stream: Any  # with read and close
    size: int | None  # bytes; None if it is not told
    version: str  # changes with the content; empty if that cannot be told


def _open_web(url: str) -> _Source:
    from urllib.request import urlopen

    response = urlopen(url, timeout=SECONDS_TO_WAIT)
    size = response.headers["Content-Length"]
    signs = [response.headers[name] for name in ("ETag", "Last-Modified")]
    return _Source(response, None if size is None else int(size), _version(signs, size))


def _open_file_system(url: str) -> _Source:
    files, path = _file_system(url)
    about = files.info(path)
    if about["type"] == "directory":
        raise IsADirectoryError
    signs = [about.get(key) for key in VERSION_KEYS]
    return _Source(files.open(path, "rb"), about.get("size"), _version(signs, about.get("size")))


def _version(signs: list[Any], size: Any) -> str:
    return _digest(f"{signs} {size}") if any(signs) else ""


def _download(source: _Source, url: str, part: Path) -> int:
    """Copy a file to its end, and return its bytes. Raises UserError if the end is missing."""
    num_bytes = 0
    with part.open("wb") as file, progress(f"fetching {url}", source.size, "B") as shown:
        while True:
            with _explained(url):
                block = source.stream.read(BLOCK_BYTES)
            try:
                if not block:
                    file.flush()
                    os.fsync(file.fileno())
                    break
                file.write(block)
            except OSError as error:
                error.filename = str(part)
                raise
            num_bytes += len(block)
            shown.advance(len(block))
    if source.size not in (None, num_bytes):
        raise UserError(
            f"{url}: the connection ended after {num_bytes:,} of {source.size:,} bytes",
            "run the command again; nothing of this was used",
        )
    return num_bytes


def outgoing(path: Path) -> Path:
    """Return the local file that an output is written to: its own, or the one that `send` sends."""
    if not isinstance(path, RemotePath):
        return path.resolve()
    return _folder("outputs", str(path)) / path.name


def refuse_unsendable(path: Path) -> None:
    """Raise UserError, before long work, if an output elsewhere cannot be written."""
    if not isinstance(path, RemotePath):
        return
    url = str(path)
    if _protocol(url) in WEB:
        raise UserError(f"{url}: a web page cannot be written", "name a file, or s3://BUCKET/FILE")
    with _explained(url), suppress(PermissionError):  # who may write need not be able to read
        files, place = _file_system(url)
        if _protocol(url) in BUCKETS and not files.exists(place.partition("/")[0]):
            raise _no_place(url)
        with suppress(FileNotFoundError):
            if files.info(place)["type"] == "directory":
                raise IsADirectoryError


def send(path: Path) -> None:
    """Send the complete local file of an output elsewhere; it stays until `discard`.

    Raises UserError if it does not arrive. An object store shows the old content until it has.
    """
    if isinstance(path, RemotePath):
        url, local = str(path), outgoing(path)
        try:
            with _explained(url):
                files, place = _file_system(url)
                try:
                    files.put_file(str(local), place)
                except FileNotFoundError:
                    raise _no_place(url) from None
        except UserError as error:
            kept = f"the complete output is kept in {local}"
            raise UserError(error.message, f"{error.hint}\n{kept}".strip()) from None
        say(f"{url}: sent, {local.stat().st_size:,} bytes")


def discard(path: Path) -> None:
    """Remove the local file of an output elsewhere, which has been sent."""
    if isinstance(path, RemotePath):
        outgoing(path).unlink(missing_ok=True)


def _file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the file's path there."""
    from fsspec import available_protocols
    from fsspec.core import url_to_fs

    known = available_protocols()
    if (protocol := _protocol(url)) not in known:
        raise UserError(
            f"{url}: the protocol {protocol} is unknown{nearest_name(protocol, known)}",
            f"known: {', '.join(sorted(known))}",
        )
    files, path = url_to_fs(url)
    return files, path


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what the file systems raise, of many libraries, into a UserError that names the URL."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, UserError | Interrupted) or not isinstance(error, Exception):
            raise
        raise _explanation(url, error) from error


def _explanation(url: str, error: Exception) -> UserError:
    protocol = _protocol(url)
    status = getattr(error, "code", None)  # of the web
    credentials = CREDENTIALS.get(protocol, "")
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return UserError(f"{url}: there is no such file", "compare the URL, letter by letter")
    if isinstance(error, PermissionError) or status in (401, 403):
        return UserError(f"{url}: no permission", credentials or "check the credentials")
    if isinstance(error, IsADirectoryError):
        return UserError(f"{url}: this is a folder, a file was expected")
    if isinstance(error, ImportError):
        package = getattr(error.__cause__, "name", None) or error.name or protocol
        return UserError(
            f"{url}: {protocol}:// needs the package {package}, which is not installed",
            f"install it with: pip install {package}",
        )
    told = str(getattr(error, "reason", None) or error).strip() or type(error).__name__
    hint = f"check the URL and the network; {credentials}" if credentials else (
        "check the URL and the network")  # fmt: skip
    return UserError(f"{url}: the transfer failed ({told.splitlines()[0]})", hint)


def _no_place(url: str) -> UserError:
    return UserError(f"{url}: there is no such folder or bucket to write to", "create it first")


def _protocol(url: str) -> str:
    return url.partition("://")[0]


def _folder(kind: str, url: str) -> Path:
    """Return the folder in the cache for what belongs to a URL."""
    folder = Path.home() / ".cache" / "mtrain" / kind / _digest(url)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
