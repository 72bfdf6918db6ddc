"""Shards: their names, what is in each, and manifests that are whole and of one job."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtrain.distributed.shards import Shard, ShardManifest, check_complete, shards_of
from mtrain.errors import UserError

JOB: dict[str, Any] = {"model": "a", "decoding": {"beam_size": 2}, "languages": ["en", "de"]}


def manifests(count: int) -> list[ShardManifest]:
    return [ShardManifest(Shard(number, count), JOB, {"lines": number})
            for number in range(1, count + 1)]  # fmt: skip


@pytest.mark.parametrize("count", [1, 3, 64])
def test_every_block_is_in_one_shard_and_neighbours_are_in_neighbours(count: int) -> None:
    shards = [Shard.parse(f"{number}/{count}") for number in range(1, count + 1)]
    for block in range(130):
        assert [shard.number for shard in shards if shard.owns(block)] == [block % count + 1]


@pytest.mark.parametrize("told", ["", "0/3", "4/3", "3", "1/0", "-1/3", "1/3/5", "1/ 3", "a/b"])
def test_what_is_not_a_shard_is_refused(told: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"--shard {told}: not a shard")):
        Shard.parse(told)


@pytest.mark.parametrize("name", ["new.de", "new[1]*?.de"])
def test_shards_lie_beside_their_output_in_their_order(name: str, tmp_path: Path) -> None:
    output = tmp_path / name
    shards = [Shard(number, 10) for number in range(1, 11)]
    paths = [shard.path_of(output) for shard in shards]
    assert paths[0] == tmp_path / f"{name}.shard-01-of-10"
    for path in (*reversed(paths), *(tmp_path / f"{path.name}.json" for path in paths)):
        path.touch()
    (tmp_path / f"{name}.gz.shard-01-of-10").touch()
    assert shards_of(output) == paths
    assert shards_of(tmp_path / "nowhere" / "new.de") == []


def test_a_manifest_is_read_as_it_was_written_and_any_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    manifest = ShardManifest(Shard(2, 3), JOB, {"sizes": [12, 0], "tally": {"lost": None}})
    manifest.write(path)
    assert ShardManifest.read(path) == manifest
    whole = path.read_bytes()
    assert b'"beam_size": 2' in whole
    for damaged in (whole[:-5], b"", b"[]", b"\xff" + whole[1:], whole.replace(b": 2", b": 3", 1),
                    whole.replace(b"tally", b"talli"), whole.replace(b"12", b"13")):  # fmt: skip
        assert damaged != whole
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="this manifest of a shard is damaged"):
            ShardManifest.read(path)


def test_a_whole_job_comes_back_in_order() -> None:
    whole = manifests(11)
    assert check_complete(whole[::-1], "out") == whole


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([], "out: there is not one complete shard"),
        (manifests(4)[1:3], "2 of 4 shards are missing: 1, 4\nrun them: --shard 1/4"),
        (manifests(60)[:1], "59 of 60 shards are missing: 2, 3, 4"),
        ([*manifests(3), manifests(3)[1]], "shard 2/3 is there twice"),
        ([*manifests(3), manifests(4)[3]], "shard 1/3 and shard 4/4 count differently"),
        (
            [manifests(2)[0], replace(manifests(2)[1], job=JOB | {"model": "b"})],
            "shard 1/2 and shard 2/2 are of different jobs:\n  model: 'a' -> 'b'",
        ),
    ],
)
def test_what_is_not_one_whole_job_is_named(found: list[ShardManifest], told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        check_complete(found, "out")
