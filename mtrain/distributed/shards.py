"""Shards of a job, and the manifests that they leave. Independent of torch and of what a job does.

A job's input is cut into blocks. Shard k of N has every N-th block, from the k-th on, so that it
depends on nothing but these numbers. It writes its output and then a manifest, which says what the
job was and what the shard has. Whoever merges reads all manifests first.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from glob import escape
from pathlib import Path
from typing import Any

from mtrain.config.compare import describe, differences
from mtrain.errors import UserError
from mtrain.text.lines import write_whole

FORMAT = 1
_MARK = re.compile(r"\.shard-(\d+)-of-(\d+)$")


@dataclass(frozen=True)
class Shard:
    """One of several parts of a job."""

    number: int  # from 1
    count: int

    @staticmethod
    def parse(told: str) -> "Shard":
        """Read `3/64`. Raises UserError for what is not a shard."""
        found = re.fullmatch(r"(\d+)/(\d+)", told)
        shard = Shard(*map(int, found.groups())) if found else Shard(0, 0)
        if not 1 <= shard.number <= shard.count:
            raise UserError(
                f"--shard {told}: not a shard",
                "give its number and their count, such as 1/64 to 64/64",
            )
        return shard

    @staticmethod
    def all(count: int) -> list["Shard"]:
        """Return all shards of a job."""
        return [Shard(number, count) for number in range(1, count + 1)]

    def owns(self, block: int) -> bool:
        """Return whether a block, counted from 0, is in this shard."""
        return block % self.count == self.number - 1

    def path_of(self, path: Path) -> Path:
        """Return where this shard of an output lies, beside the output."""
        width = len(str(self.count))
        return path.with_name(f"{path.name}.shard-{self.number:0{width}}-of-{self.count}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True)
class ShardManifest:
    """What a complete shard was made from, and what it has."""

    shard: Shard
    job: dict[str, Any]  # what all shards have in common: configuration, digests of inputs
    content: dict[str, Any]  # of this shard: digests of its files, blocks, counts

    def as_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values, with a digest of itself."""
        told = asdict(self)
        return {"format": FORMAT, "sha256": _digest(told), **told}

    def write(self, path: Path) -> None:
        """Write the manifest at once; the shard's files must be on disk."""
        with write_whole(path) as file:
            file.write(json.dumps(self.as_json(), indent=1).encode())

    @staticmethod
    def read(path: Path) -> "ShardManifest":
        """Read a manifest. Raises UserError if it is damaged, or of another version."""
        try:
            told = json.loads(path.read_bytes())
            if told.pop("format") == FORMAT and told.pop("sha256") == _digest(told):
                return ShardManifest(Shard(**told["shard"]), told["job"], told["content"])
        except (ValueError, LookupError, TypeError, AttributeError):
            pass
        raise UserError(
            f"{path}: this manifest of a shard is damaged, or of another version of mtrain",
            "remove it, and run that shard again",
        )


def _digest(told: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def shards_of(path: Path) -> list[Path]:
    """Return what lies beside an output under the name of one of its shards."""
    beside = path.parent.glob(f"{escape(path.name)}.shard-*") if path.parent.is_dir() else ()
    return sorted(found for found in beside if _MARK.search(found.name))


def check_count(path: Path, count: int) -> None:
    """Raise UserError if a job with another number of shards has begun at an output."""
    counts = {int(mark[2]) for found in shards_of(path) if (mark := _MARK.search(found.name))}
    if others := sorted(counts - {count}):
        raise UserError(
            f"{path}: there are already shards of a job with {others[0]} of them",
            f"continue it with --shards {others[0]}, or remove them",
        )


def check_complete(manifests: Sequence[ShardManifest], what: object) -> list[ShardManifest]:
    """Return the manifests of one whole job, in the order of its shards.

    Raises UserError if they belong to several jobs, or if a shard is missing or comes twice.
    """
    if not manifests:
        raise UserError(f"{what}: there is not one complete shard", "run the command with --shard")
    first = manifests[0]
    for other in manifests[1:]:
        if other.shard.count != first.shard.count:
            raise UserError(
                f"{what}: shard {first.shard} and shard {other.shard} count differently",
                "remove the shards of the job that you do not want",
            )
        if changed := differences(first.job, other.job):
            raise UserError(
                f"{what}: shard {first.shard} and shard {other.shard} are of different jobs:"
                + describe(changed),
                "remove the shards of the job that you do not want, and run those again",
            )
    by_number = {manifest.shard.number: manifest for manifest in manifests}
    if len(by_number) < len(manifests):
        numbers = [manifest.shard.number for manifest in manifests]
        twice = next(number for number in numbers if numbers.count(number) > 1)
        raise UserError(f"{what}: shard {twice}/{first.shard.count} is there twice",
                        "remove one of them")  # fmt: skip
    if gaps := [n for n in range(1, first.shard.count + 1) if n not in by_number]:
        told = ", ".join(map(str, gaps[:20])) + (" ..." if len(gaps) > 20 else "")
        raise UserError(
            f"{what}: {len(gaps)} of {first.shard.count} shards are missing: {told}",
            f"run them: --shard {gaps[0]}/{first.shard.count}",
        )
    return [by_number[number] for number in sorted(by_number)]
