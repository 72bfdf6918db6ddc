"""The interface of a peer: the task it receives, and how to read its updates."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

NEVER = 1_000_000  # interval in updates for what must not happen


@dataclass(frozen=True)
class Task:
    """What every peer trains: the same pieces, model size and batch size.

    All use pre-norm or their own default, ReLU, tied embeddings, dropout and label smoothing 0.1,
    Adam(0.9, 0.98), gradient clipping at 1, fp32 on the CPU.
    """

    folder: Path  # the peer's own folder
    source: Path  # pieces separated by spaces, one sentence per line
    target: Path
    pieces: Sequence[str]  # the shared vocabulary without special tokens
    num_layers: int
    d_model: int
    ffn_dim: int
    num_heads: int
    batch_tokens: int
    num_tokens: int  # target tokens to measure
    threads: int

    @property
    def num_updates(self) -> int:
        """A sufficient number of updates, for peers that cannot stop after a number of tokens."""
        return 10 + 2 * self.num_tokens // self.batch_tokens

    def write(self, name: str, text: str) -> str:
        """Write a file into the peer's folder and return its path."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        return str(path)

    def vocabulary(self, marks: Sequence[str] = (), line: str = "{piece}\n") -> str:
        """Return special tokens and pieces, one per line."""
        return "".join(
            line.format(piece=piece, number=number)
            for number, piece in enumerate((*marks, *self.pieces))
        )

    def fill(self, template: str, **values: object) -> str:
        """Return a configuration template with every <name> replaced by the task's value."""
        known = {**vars(self), **values, "never": NEVER}
        return re.sub(r"<(\w+)>", lambda place: str(known[place[1]]), template)


@dataclass(frozen=True)
class Peer:
    """How to run a trainer."""

    # module and arguments of a Python trainer, traced by inside.py; or a whole command
    command: Callable[[Task], list[str]]
    log_line: str = ""  # for a trainer outside Python: regex groups seconds and tokens a second
