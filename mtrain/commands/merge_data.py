"""`mtrain merge CONFIG.yaml`: join what the shards of `mtrain prepare --shard` have made."""

import time

from mtrain.commands.preparation import Preparation
from mtrain.commands.prepare_shard import BLOCKS, JOINED, SCAN, TOKENS, job_of
from mtrain.config import Config
from mtrain.console import say
from mtrain.data.block_records import read_scanned, read_tokens
from mtrain.data.builder import DataBuilder
from mtrain.data.report import describe_manifest
from mtrain.data.scan import Scan, join_scan
from mtrain.distributed.job_folder import JobFolder, files_of
from mtrain.distributed.shards import shards_of
from mtrain.errors import UserError
from mtrain.text.filters import KEPT


def merge_data(config: Config) -> str:
    """Join the shards of the round that is complete.

    After the first round, return what is to be done next; after the second, the data folder is
    there: return a report on it.
    """
    due = Preparation.of(config)
    job = job_of(due)
    job.check_belongs()
    if due.prepared is not None:
        job.remove()
        return describe_manifest(due.prepared)
    name = TOKENS if job.manifest(JOINED) else SCAN
    if not shards_of(job.path / name):
        number = 1 if name == SCAN else 2
        raise UserError(
            f"{job.path}: no shard of round {number} of 2 is complete",
            "run for all shards first: mtrain prepare CONFIG.yaml --shard 1/N to N/N",
        )
    return _join_scan(config, job) if name == SCAN else _join_tokens(due, job)


def _join_scan(config: Config, job: JobFolder) -> str:
    """Mark duplicates among all pairs, train the tokenizer, and keep both in the job's folder."""
    started = time.monotonic()
    with job.hold(JOINED):
        if job.manifest(JOINED) is not None:
            raise UserError(f"{job.path}: another process has just joined these shards",
                            "run the same command again for what is due next")  # fmt: skip
        shards = job.read(SCAN)
        with job.write(JOINED) as (folder, content):
            scan = join_scan(config, folder, read_scanned(files_of(shards, BLOCKS)))
            DataBuilder(config, folder).make_tokenizers(scan)
            scan.save(folder)
            seconds = round(time.monotonic() - started, 1)
            content["seconds"] = seconds + sum(shard.content["seconds"] for _, shard in shards)
    num_kept, num_shards = int((scan.verdicts == KEPT).sum()), len(shards)
    return (
        f"round 1 of 2: joined {num_shards:,} shards in {seconds} s: {num_kept:,} of "
        f"{len(scan.verdicts):,} pairs pass the filters of text; the tokenizer is made\n"
        f"run next: mtrain prepare CONFIG.yaml --shard 1/{num_shards} to {num_shards}/{num_shards}"
        ", or with another number of shards"
    )


def _join_tokens(due: Preparation, job: JobFolder) -> str:
    """Make the data folder, and remove the job's."""
    with due.hold():
        ((joined, about),) = job.read(JOINED)
        shards = job.read(TOKENS)
        for place, shard in shards:
            if shard.content.get(JOINED) != about.content["files"]:  # round 1 was merged once more
                raise UserError(f"{place}: made with another tokenizer or other pairs than now",
                                "remove it, and run that shard again")  # fmt: skip
        seconds = about.content["seconds"] + sum(each.content["seconds"] for _, each in shards)
        manifest = due.build(
            lambda builder: builder.join(
                due.inputs,
                Scan.load(joined),
                joined / "tokenizer",
                read_tokens(files_of(shards, BLOCKS)),
                seconds,
            )
        )
        job.remove()
    say(f"{due.folder.path}: prepared by {len(shards):,} shards in {manifest['seconds']} s in all")
    return describe_manifest(manifest)
