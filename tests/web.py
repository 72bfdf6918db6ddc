"""A web server on this machine for the files of a folder, which can fail as servers do."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO


class Web(ThreadingHTTPServer):
    """The server; what it does wrong is said by the name of a file."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.broken_off: set[str] = set()  # sent by half
        self.forbidden: set[str] = set()
        self.undated = False  # whether nothing tells if a file has changed
        self.sent: Counter[str] = Counter()  # how often each file went out

    def handle_error(self, *_: Any) -> None:
        """Say nothing of a reader that leaves after it has seen the headers."""


class _Handler(SimpleHTTPRequestHandler):
    server: Web

    @property
    def _name(self) -> str:
        return self.path.removeprefix("/")

    def do_GET(self) -> None:
        if self._name in self.server.forbidden:
            self.send_error(403)
        else:
            super().do_GET()

    def send_header(self, keyword: str, value: str) -> None:
        if not (self.server.undated and keyword == "Last-Modified"):
            super().send_header(keyword, value)

    def copyfile(self, source: Any, outputfile: BinaryIO) -> None:  # type of the base class
        content = source.read()
        is_broken_off = self._name in self.server.broken_off
        self.server.sent[self._name] += 1  # before a reader may have it all and count
        outputfile.write(content[: len(content) // 2] if is_broken_off else content)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[Web]:
    """Serve a folder."""
    with Web(folder) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
