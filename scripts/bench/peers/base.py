"""What a peer is given, and what it must give back: seconds and real target tokens an update."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

NEVER = 1_000_000  # updates between what is not to be measured


@dataclass(frozen=True)
class Task:
    """What every peer trains: the same pieces, size of model and size of batch.

    Each: pre-norm or its own default, ReLU, all embeddings tied, dropout and label smoothing 0.1,
    Adam(0.9, 0.98), clipping at 1, fp32 on the CPU.
    """

    folder: Path  # the peer's own
    source: Path  # pieces separated by spaces, a sentence a line
    target: Path
    pieces: Sequence[str]  # the vocabulary of both sides, marks left out
    num_layers: int
    d_model: int
    ffn_dim: int
    num_heads: int
    batch_tokens: int
    num_tokens: int  # of the target, after which it is enough
    threads: int

    @property
    def num_updates(self) -> int:
        """Updates that are surely enough, for who cannot be told of tokens."""
        return 10 + 2 * self.num_tokens // self.batch_tokens

    def write(self, name: str, text: str) -> str:
        """Write a file into the peer's folder and return its path."""
        path = self.folder / name
        path.write_text(text, "utf-8")
        return str(path)

    def vocabulary(self, marks: Sequence[str] = (), line: str = "{piece}\n") -> str:
        """Return the pieces, a line each, some marks before them."""
        return "".join(
            line.format(piece=piece, number=number)
            for number, piece in enumerate((*marks, *self.pieces))
        )

    def fill(self, template: str, **values: object) -> str:
        """Return a configuration with the task's figures in the places <name>."""
        known = {**vars(self), **values, "never": NEVER}
        return re.sub(r"<(\w+)>", lambda place: str(known[place[1]]), template)


@dataclass(frozen=True)
class Peer:
    """How a trainer is run."""

    # module and arguments of a trainer in Python, which inside.py traces; else a whole command
    command: Callable[[Task], list[str]]
    log_line: str = ""  # of one that is not in Python: seconds and tokens a second, in groups
