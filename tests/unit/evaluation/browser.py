"""Pages in headless Chromium: what stands there after their scripts, and what they ask for."""

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
# The rule keeps the browser itself, which likes to call its makers, off the network.
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-sync", "--disable-background-networking", "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--virtual-time-budget=5000",
    "--window-size=1200,900",
]  # fmt: skip


def browse(path: Path, fragment: str, *flags: str) -> str:
    """Return the page as it stands in a browser after its scripts."""
    assert CHROMIUM is not None
    profile = path.parent / "profile"
    try:
        done = subprocess.run(
            [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", "--dump-dom",
             f"{path.as_uri()}#{fragment}"],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    finally:
        shutil.rmtree(profile, ignore_errors=True)
    return done.stdout


def assert_fetches_nothing(page: Path, folder: Path, fragment: str = "") -> None:
    """Fail if a page asks for anything, or if what it asks for would not be noticed."""
    control = folder / "control.html"
    control.write_text("<img src=http://attention.test/control>")
    with listening_proxy() as (flag, requests):
        browse(control, "", flag)
        assert any("attention.test/control" in request for request in requests)
        requests.clear()
        browse(page, fragment, flag)
        of_the_browser = re.compile(r"\.google(apis)?\.com[:/]")
        assert [request for request in requests if not of_the_browser.search(request)] == []


@contextmanager
def listening_proxy() -> Iterator[tuple[str, list[str]]]:
    """Yield the flag that sends a browser's requests here, and the list of all that come."""
    requests: list[str] = []

    class Refuse(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            requests.append(self.rfile.readline().decode("latin-1").strip())
            self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"--proxy-server=http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
