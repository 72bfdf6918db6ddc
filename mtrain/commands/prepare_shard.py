"""`mtrain prepare --shard`: what one shard contributes to a data folder, in each of two rounds."""

import shutil
import time
from pathlib import Path
from typing import Any

from mtrain.commands.preparation import Preparation
from mtrain.config import Config
from mtrain.data.block_records import write_scanned, write_tokens
from mtrain.data.held_out_sets import hold_out
from mtrain.data.report import describe_manifest
from mtrain.data.scan import Scan, scanned_blocks
from mtrain.data.token_blocks import token_blocks
from mtrain.distributed.job_folder import JobFolder
from mtrain.distributed.shards import Shard
from mtrain.text.protection import Protection
from mtrain.text.tokenizer import TokenizerPair

SCAN, TOKENS, JOINED = "scan", "tokens", "joined"  # the rounds, and the result of the first
BLOCKS = "blocks"  # the file of a shard
ROUNDS = {SCAN: "round 1 of 2, which filters", TOKENS: "round 2 of 2, which tokenises"}


def prepare_shard(config: Config, shard: Shard) -> str:
    """Do a shard's part of the round that is due, and return a report on it."""
    due = Preparation.of(config)
    if due.prepared is not None:
        return describe_manifest(due.prepared)
    job = job_of(due)
    job.begin()
    name = TOKENS if job.manifest(JOINED) else SCAN
    with job.hold(name, shard):
        manifest, word = job.manifest(name, shard), "is there already"
        if manifest is None:
            word = "done"
            with job.write(name, shard) as (folder, content):
                started = time.monotonic()
                write = _scan if name == SCAN else _tokenise
                content |= write(config, shard, job, folder)
                content["seconds"] = round(time.monotonic() - started, 1)
            manifest = job.manifest(name, shard)
            assert manifest is not None
    num_complete = job.count(name, shard)
    left = f"{num_complete} of {shard.count} shards are complete"
    if num_complete == shard.count:
        left = "all shards are complete; run next: mtrain merge CONFIG.yaml"
    return f"{ROUNDS[name]}: shard {shard} {word}: {_tell(manifest.content)}\n{left}"


def job_of(due: Preparation) -> JobFolder:
    """Return the folder of the shards that make a data folder."""
    inputs = {
        str(entry.get("path", entry.get("hub"))): entry.get("sha256", entry.get("fingerprint"))[:16]
        for entry in due.inputs["inputs"]
    }
    path = due.destination.with_name(f"{due.destination.name}.shards")
    return JobFolder(path, {**due.inputs, "inputs": inputs})


def _scan(config: Config, shard: Shard, job: JobFolder, folder: Path) -> dict[str, int]:
    """Write what the first pass says of the shard's blocks; return counts."""
    text = folder / "text"
    sets = hold_out(config, text)
    counts = {"blocks": 0, "pairs": 0}
    with (folder / BLOCKS).open("wb") as file:
        for block in scanned_blocks(config, sets, shard.owns):
            write_scanned(file, block)
            _count(counts, block.place.num_pairs)
    shutil.rmtree(text)  # whoever merges writes it again
    return counts


def _tokenise(config: Config, shard: Shard, job: JobFolder, folder: Path) -> dict[str, Any]:
    """Write the tokens of the shard's blocks; return counts, and what they were made from."""
    ((joined, about),) = job.read(JOINED)
    tokenizers = TokenizerPair.load(joined / "tokenizer")
    tokenizers = tokenizers.protecting(Protection.of(config.data.protect))
    counts = {"blocks": 0, "pairs": 0}
    with (folder / BLOCKS).open("wb") as file:
        for block in token_blocks(config, tokenizers, Scan.load(joined).verdicts, shard.owns):
            write_tokens(file, block)
            _count(counts, block.place.num_pairs)
    return {**counts, JOINED: about.content["files"]}


def _count(counts: dict[str, int], num_pairs: int) -> None:
    counts["blocks"] += 1
    counts["pairs"] += num_pairs


def _tell(content: dict[str, Any]) -> str:
    if not content["blocks"]:
        return "no block of the corpora, which have fewer blocks than there are shards"
    unit = "block" if content["blocks"] == 1 else "blocks"
    return f"{content['pairs']:,} pairs in {content['blocks']:,} {unit}, {content['seconds']} s"
