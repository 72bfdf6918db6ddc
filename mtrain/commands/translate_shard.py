"""One shard of a translation: where its outputs lie, when it is complete, what its manifest tells.

Shard k of N translates every N-th unit of the text, from the k-th on, and passes over the others.
Its manifest lies beside its first output, as NAME.json, and is written last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mtrain.commands.translate_units import UnitsOf
from mtrain.config.compare import describe, differences
from mtrain.console import say
from mtrain.decoding.journal import Journal, about
from mtrain.decoding.lines_done import LinesDone
from mtrain.distributed.shards import Shard, ShardManifest
from mtrain.errors import UserError
from mtrain.remote import RemotePath
from mtrain.text.lines import STREAM, can_be_replaced, file_digest, open_bytes
from mtrain.text.streams import is_stdout


@dataclass(frozen=True)
class ShardContent:
    """What a manifest tells of a translated shard, by what its outputs hold."""

    digests: dict[str, str]
    sizes: dict[str, list[int]]  # bytes of each unit
    tally: dict[str, Any]
    notes: dict[str, dict[str, Any]]  # the counts of what writes the outputs


def shard_paths(
    shard: Shard, files: Mapping[str, Path | None], inputs: Sequence[Path | None]
) -> dict[str, Path]:
    """Return where the outputs of a shard lie.

    Raises UserError if an output is no file, or if an input is stdin.
    """
    if STREAM in inputs or None in inputs:
        raise UserError("stdin has no shards: each must read the whole text", "name a file to read")
    paths = {}
    for name, path in files.items():
        if path is None or is_stdout(path) or not can_be_replaced(path):
            raise UserError(f"--{name} must name a file: shards lie beside it", "name one")
        if isinstance(path, RemotePath):
            raise UserError(
                f"{path}: shards lie beside --{name}, on storage that all processes share",
                "name a file there, and send it when it is joined",
            )
        paths[name] = shard.path_of(path.resolve())
        if not can_be_replaced(paths[name]):
            raise UserError(f"{paths[name]}: this is no file", "move it away")
    return paths


class ShardJob:
    """The translation that a shard is part of, and the journal of the shard's outputs."""

    def __init__(
        self, shard: Shard, journal: Journal, names: Sequence[str], job: Mapping[str, Any]
    ) -> None:
        self.identity = {**job, "--shard": str(shard)}  # what the journal belongs to
        self._shard, self._journal, self._job = shard, journal, job
        self._paths = dict(zip(names, journal.paths, strict=True))

    def is_complete(self, text: UnitsOf) -> bool:
        """Return whether the shard was translated before, and say so.

        Raises UserError if there is a shard of another job, or a file that none has written.
        """
        if self._journal.resumes(self.identity):
            return False
        output = self._paths["output"]
        if not about(output).exists():
            if path := next(filter(Path.exists, self._paths.values()), None):
                raise UserError(
                    f"{path}: there is a file, and no manifest {about(output)} tells of it",
                    "remove it, or choose another --output",
                )
            return False
        if not any(map(Path.exists, self._paths.values())):
            return False  # it was removed, or its removal was killed
        manifest, done = ShardManifest.read(about(output)), LinesDone()
        with open_bytes(text.path) as source:
            for unit in text.all(source):
                done.add(*unit)
        if changed := differences(manifest.job, self._whole_job(done)):
            raise UserError(
                f"{output}: there is a shard of another translation:{describe(changed)}",
                f"{_remove(self._paths)}, or choose another --output",
            )
        for name, path in self._paths.items():
            if not path.is_file() or file_digest(path) != manifest.content["digests"][name]:
                raise damaged(self._shard, path, self._paths)
        say(f"{output}: translated before, nothing to do")
        return True

    def finish(
        self,
        done: LinesDone,
        sizes: dict[str, list[int]],
        tally: dict[str, Any],
        notes: dict[str, dict[str, Any]],
    ) -> None:
        """Give the outputs their names, and write the manifest."""
        if done.num_units < self._shard.number:
            say(
                f"shard {self._shard} has nothing to translate: decoding.buffer_lines cuts the "
                f"text into {done.num_units} blocks"
            )
        digests = dict(zip(self._paths, self._journal.digests(), strict=True))
        content = asdict(ShardContent(digests, sizes, tally, notes))
        manifest = ShardManifest(self._shard, self._whole_job(done), content)
        self._journal.finish(manifest.as_json())

    def _whole_job(self, done: LinesDone) -> dict[str, Any]:
        """Return what all shards have in common, given the whole text."""
        text = {"sha256": done.digest, "lines": done.num_lines, "blocks": done.num_units}
        return {**self._job, "text": text}


def damaged(shard: Shard, path: Path, paths: Mapping[str, Path]) -> UserError:
    """Return the error for an output of a shard that is not what the shard's manifest tells."""
    return UserError(
        f"{path}: missing, changed or damaged: the manifest of shard {shard} tells of another file",
        f"{_remove(paths)}, and run it again: --shard {shard}",
    )


def _remove(paths: Mapping[str, Path]) -> str:
    return f"remove {' '.join(map(str, (about(paths['output']), *paths.values())))}"
