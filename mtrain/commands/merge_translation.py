"""`mtrain merge`: join what the shards of a job have written."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import reduce
from itertools import zip_longest
from operator import add
from pathlib import Path
from typing import Any

from mtrain.commands.translate_shard import ShardContent, damaged
from mtrain.commands.translate_writers import judge, say_tally
from mtrain.console import say
from mtrain.decoding.journal import about
from mtrain.decoding.stream import LineTally
from mtrain.distributed.shards import Shard, ShardManifest, check_complete, shards_of
from mtrain.errors import UserError
from mtrain.evaluation.health import HealthTally
from mtrain.evaluation.limits import parse_limits
from mtrain.inference.linking import warn_of_unlinked
from mtrain.text.lines import write_whole


def merge_translation(output: Path, keeps_shards: bool = True) -> None:
    """Join the shards of a translation into its outputs, which appear when all are whole.

    They are what one process would have written. Raises UserError, and writes nothing, if a shard
    is missing, damaged or of another translation; and in the end if the lines together exceed a
    limit of `--fail-on`.
    """
    manifests = check_complete(_read_manifests(output), output)
    job, contents = manifests[0].job, [ShardContent(**each.content) for each in manifests]
    tally = reduce(add, (LineTally(**each.tally) for each in contents))
    if tally.lines != job["text"]["lines"]:
        raise UserError(
            f"{output}: the shards have {tally.lines:,} lines, and the text "
            f"{job['text']['lines']:,}: it grew while they were translated",
            "remove the shards, and run them again",
        )
    files = {name: _path_of(name, output, job) for name in contents[0].digests}
    with ExitStack() as stack:
        for name, path in files.items():
            sink = stack.enter_context(write_whole(path))
            streams = [_units(each.shard, name, files, content)
                       for each, content in zip(manifests, contents, strict=True)]  # fmt: skip
            for units in zip_longest(*streams, fillvalue=b""):
                sink.writelines(units)
    say_tally(output, tally)
    if keeps_shards:
        shards = [f"{path}.shard-*-of-{len(manifests)}*" for path in files.values()]
        say(f"{output}: joined {len(manifests)} shards, which may be removed: {' '.join(shards)}")
    else:
        for each in manifests:
            for path in files.values():
                each.shard.path_of(path.resolve()).unlink()
            about(each.shard.path_of(output.resolve())).unlink()
    _tell_counts(output, [each.notes for each in contents], job["--fail-on"])


def _read_manifests(output: Path) -> list[ShardManifest]:
    """Return the manifests of the complete shards of an output."""
    manifests = []
    for path in filter(lambda path: about(path).exists(), shards_of(output.resolve())):
        manifests.append(ShardManifest.read(about(path)))
        shard = manifests[-1].shard
        if path.name != shard.path_of(output.resolve()).name:
            raise UserError(
                f"{path}: this is shard {shard} under another name",
                "remove it and its manifest, or give them back their names",
            )
    return manifests


def _path_of(name: str, output: Path, job: Mapping[str, Any]) -> Path:
    """Return where a whole output lies; the job tells of the others from the first one on."""
    return output if name == "output" else Path(output.resolve().parent / job[f"--{name}"])


def _units(
    shard: Shard, name: str, files: Mapping[str, Path], content: ShardContent
) -> Iterator[bytes]:
    """Yield the units of a shard's output. Raises UserError in the end if it is damaged.

    Opens the file for each: there may be more shards than files may be open.
    """
    paths = {each: shard.path_of(path.resolve()) for each, path in files.items()}
    path, digest, place = paths[name], hashlib.sha256(), 0
    if not path.is_file() or path.stat().st_size != sum(content.sizes[name]):
        raise damaged(shard, path, paths)
    for size in content.sizes[name]:
        with path.open("rb") as file:
            file.seek(place)
            unit = file.read(size)
        digest.update(unit)
        place += size
        yield unit
    if digest.hexdigest() != content.digests[name]:
        raise damaged(shard, path, paths)


def _tell_counts(
    output: Path, notes: Sequence[Mapping[str, Mapping[str, Any]]], limits: Sequence[str]
) -> None:
    """Tell what all shards together counted. Raises UserError if it exceeds a limit."""
    unlinked, health = Counter[str](), HealthTally()
    for each in notes:
        unlinked.update(each.get("alignments", {}))
        if "report" in each:
            health.add(each["report"])
    warn_of_unlinked(unlinked)
    if "report" in notes[0]:
        judge(output, health.health(), parse_limits(limits))
