"""A table of lines that make other toolkits lose count of lines, or change the text.

Each entry has the bytes of one line of a file, and the text that a model should see.
"""

from dataclasses import dataclass

import pytest

LONG = 1_000_000


@dataclass(frozen=True)
class Trap:
    """A raw line without its \\n, its cleaned text, and whether its bytes are UTF-8."""

    raw: bytes
    clean: str
    is_valid: bool = True


TRAPS = {
    "ordinary": Trap(b"a b", "a b"),
    "carriage return": Trap(b"a\rb", "a b"),
    "carriage return last": Trap(b"a b\r", "a b"),  # of a file with \r\n line ends
    "carriage return alone": Trap(b"\r", ""),
    "vertical tab": Trap(b"a\vb", "a b"),
    "form feed": Trap(b"a\fb", "a b"),
    "file separator": Trap(b"a\x1cb", "a b"),
    "group separator": Trap(b"a\x1db", "a b"),
    "record separator": Trap(b"a\x1eb", "a b"),
    "next line": Trap("a\x85b".encode(), "a b"),
    "line separator": Trap("a\u2028b".encode(), "a b"),
    "paragraph separator": Trap("a\u2029b".encode(), "a b"),
    "NUL": Trap(b"a\x00b", "a b"),
    "byte-order mark first": Trap("\ufeffa b".encode(), "a b"),
    "byte-order mark inside": Trap("a\ufeffb".encode(), "a b"),
    "UTF-16 byte-order mark": Trap(b"\xff\xfea b", "\ufffd\ufffda b", is_valid=False),
    "invalid UTF-8 first": Trap(b"\xffa b", "\ufffda b", is_valid=False),
    "invalid UTF-8 inside": Trap(b"a \xf0\x9f b", "a \ufffd b", is_valid=False),
    "invalid UTF-8 last": Trap(b"a b\xc3", "a b\ufffd", is_valid=False),
    "surrogate": Trap(b"a \xed\xa0\x80b", "a \ufffd\ufffd\ufffdb", is_valid=False),
    "Latin-1": Trap("grün".encode("latin-1"), "gr\ufffdn", is_valid=False),
    "tab": Trap(b"a\tb", "a b"),
    "several spaces": Trap(b"  a   b ", "a b"),
    "no-break space": Trap("a\u00a0b".encode(), "a b"),
    "only spaces": Trap(b"   ", ""),
    "empty": Trap(b"", ""),
    "two at signs": Trap(b"a@@ b", "a@@ b"),
    "word start mark": Trap("a\u2581b".encode(), "a\u2581b"),
    "start mark": Trap(b"<s> a </s>", "<s> a </s>"),
    "unknown mark": Trap(b"a <unk> b <pad>", "a <unk> b <pad>"),
    "byte piece": Trap(b"a <0x0A> b", "a <0x0A> b"),
    "other scripts": Trap("日本語 שלום 😀".encode(), "日本語 שלום 😀"),
    "million characters": Trap(b"ab " * (LONG // 3), ("ab " * (LONG // 3)).strip()),
    "million without a space": Trap(b"a" * LONG, "a" * LONG),
}

every_trap = pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS.keys())
