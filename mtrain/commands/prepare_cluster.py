"""`mtrain prepare --ray`: both rounds of all shards on a Ray cluster, and what joins them."""

from functools import partial

from mtrain.commands.merge_data import merge_data
from mtrain.commands.preparation import Preparation
from mtrain.commands.prepare_shard import JOINED, SCAN, TOKENS, job_of, prepare_shard
from mtrain.config import Config
from mtrain.data.report import describe_manifest
from mtrain.distributed.cluster import Cluster, Work
from mtrain.distributed.shards import Shard, check_count


def prepare_on_cluster(
    config: Config, address: str, num_shards: int, num_workers: int | None
) -> str:
    """Build the data folder of a configuration by shards and return a report on it.

    The same command resumes after a kill: complete shards are left alone.
    """
    due = Preparation.of(config)
    if due.prepared is not None:
        return describe_manifest(due.prepared)
    job = job_of(due)
    is_joined = job.manifest(JOINED) is not None
    check_count(job.path / (TOKENS if is_joined else SCAN), num_shards)
    told = ""
    with Cluster(address) as cluster:
        for name in ("tokenising",) if is_joined else ("filtering", "tokenising"):
            shards = Shard.all(num_shards)
            cluster.run(name, shards, partial(_open, config), num_workers)
            told = merge_data(config)
    return told


def _open(config: Config) -> Work:
    return partial(_prepare, config)


def _prepare(config: Config, shard: Shard) -> None:
    prepare_shard(config, shard)
