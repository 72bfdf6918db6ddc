"""The folder of a sharded job, on storage that all its processes share.

A job has rounds. Each shard of a round is a folder, which gets its name once it is complete, with
a manifest. What joins a round is kept in the same way, as the only shard of a round. Knows nothing
of what the rounds do.
"""

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from mtrain.config.compare import describe, differences
from mtrain.data.folders import hold
from mtrain.distributed.shards import Shard, ShardManifest, check_complete, shards_of
from mtrain.errors import UserError
from mtrain.text.lines import file_digest, file_digests, flush_to_disk, write_whole

JOB, MANIFEST = "job.json", "manifest.json"
ALL = Shard(1, 1)
_OURS = re.compile(r"\.?[a-z]+\.shard-\d+-of-\d+(\.lock|\.building-\w+)?|\.nfs\w+"
                   r"|job\.json|\.job\.json\.\w+\.part")  # fmt: skip


@dataclass(frozen=True)
class JobFolder:
    """A folder with the shards of one job."""

    path: Path
    job: dict[str, Any]  # what all shards have in common, in the form of JSON

    def begin(self) -> None:
        """Create the folder, unless it is there. Raises UserError if it is not this job's."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.check_belongs()
        if not (self.path / JOB).exists():
            with write_whole(self.path / JOB) as file:
                file.write(json.dumps(self.job, indent=1).encode())

    def check_belongs(self) -> None:
        """Raise UserError if another job or something else than a job has files in the folder."""
        if not self.path.exists():
            return
        if others := sorted(path.name for path in self.path.iterdir()
                            if not _OURS.fullmatch(path.name)):  # fmt: skip
            raise UserError(
                f"{self.path}: this folder is for shards, and mtrain did not write: "
                + ", ".join(others[:5]),
                "move that elsewhere; nothing was changed",
            )
        path = self.path / JOB
        try:
            told = dict(json.loads(path.read_bytes())) if path.exists() else self.job
        except (ValueError, TypeError):
            raise UserError(f"{path}: damaged", f"remove {self.path} to begin anew") from None
        self._check_same(told, f"{self.path}: its shards are")

    def place_of(self, name: str, shard: Shard = ALL) -> Path:
        """Return where a shard of a round is, once it is complete."""
        return shard.path_of(self.path / name)

    @contextmanager
    def hold(self, name: str, shard: Shard = ALL) -> Iterator[None]:
        """Hold a shard of a round. Raises UserError if another process holds it."""
        place = self.place_of(name, shard)
        refusal = f"{place}: another process is at work on it"
        with hold(place.with_name(f".{place.name}.lock"), refusal):
            yield

    @contextmanager
    def write(self, name: str, shard: Shard = ALL) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield a new folder for a shard that is held, and a dict for what its manifest says.

        If the block ends without an error, the folder gets its name.
        """
        place = self.place_of(name, shard)
        prefix = f".{place.name}.building-"
        for leftover in self.path.glob(f"{prefix}*"):  # of a killed process
            shutil.rmtree(leftover, ignore_errors=True)
        building, content = self.path / f"{prefix}{secrets.token_hex(4)}", dict[str, Any]()
        try:
            building.mkdir()
            yield building, content
            content["files"] = file_digests(building)
            for file in content["files"]:
                flush_to_disk(building / file)
            ShardManifest(shard, self._job_of(name), content).write(building / MANIFEST)
            os.replace(building, place)
        except BaseException as error:
            shutil.rmtree(building, ignore_errors=True)
            if isinstance(error, OSError) and error.filename is None:  # write errors name no file
                error.filename = str(place)
            raise

    def manifest(self, name: str, shard: Shard = ALL) -> ShardManifest | None:
        """Return the manifest of a shard, or None if it is not complete."""
        place = self.place_of(name, shard)
        if not place.exists():
            return None
        manifest = _read(place)
        self._check_same_job(manifest, name, place)
        return manifest

    def read(self, name: str) -> list[tuple[Path, ShardManifest]]:
        """Return the folder and the manifest of each shard of a round, in order.

        Raises UserError if there is not all of the round, or if a file is damaged.
        """
        found = {place: _read(place) for place in shards_of(self.path / name)}
        ordered = check_complete(list(found.values()), self.path / name)
        places = {manifest.shard: place for place, manifest in found.items()}
        for manifest in ordered:
            self._check_same_job(manifest, name, places[manifest.shard])
            _check_files(places[manifest.shard], manifest)
        return [(places[manifest.shard], manifest) for manifest in ordered]

    def count(self, name: str, shard: Shard) -> int:
        """Return how many shards of a round, counted like this one, are complete."""
        ending = f"-of-{shard.count}"
        return sum(place.name.endswith(ending) for place in shards_of(self.path / name))

    def remove(self) -> None:
        """Remove the folder; a kill leaves either all of it or a hidden rest."""
        hidden = f".{self.path.name}.outdated-"
        if self.path.exists():
            os.replace(self.path, self.path.with_name(f"{hidden}{secrets.token_hex(4)}"))
        for rest in self.path.parent.glob(f"{escape(hidden)}*"):
            shutil.rmtree(rest, ignore_errors=True)

    def _job_of(self, name: str) -> dict[str, Any]:
        return {"round": name, **self.job}

    def _check_same_job(self, manifest: ShardManifest, name: str, place: Path) -> None:
        told = {key: value for key, value in manifest.job.items() if key != "round"}
        self._check_same(told, f"{place}: this shard is")
        if manifest.job.get("round") != name:
            raise UserError(f"{place}: this is a shard of the round {manifest.job.get('round')}",
                            "remove it, and run that shard again")  # fmt: skip

    def _check_same(self, told: dict[str, Any], what: str) -> None:
        if changed := differences(told, self.job):
            raise UserError(
                f"{what} of other settings or inputs than these:" + describe(changed),
                f"take the changes back, or remove {self.path} to begin anew",
            )


def _read(place: Path) -> ShardManifest:
    if not (place / MANIFEST).is_file():
        raise UserError(f"{place}: this shard has no manifest", "remove it, and run it again")
    return ShardManifest.read(place / MANIFEST)


def _check_files(place: Path, manifest: ShardManifest) -> None:
    digests: dict[str, str] = manifest.content["files"]
    wrong = [name for name, digest in digests.items()
             if not (place / name).is_file() or file_digest(place / name) != digest]  # fmt: skip
    if wrong:
        raise UserError(
            f"{place / wrong[0]}: damaged: not as shard {manifest.shard} wrote it",
            f"remove {place}, and make it again",
        )


def files_of(shards: Sequence[tuple[Path, ShardManifest]], name: str) -> list[Path]:
    """Return the file of a name in each shard."""
    return [place / name for place, _ in shards]
