"""Adds what a teacher expects of each target token to a data folder, as columns of its train store.

Shapes: B pairs, T longest target, end mark included, K tokens that are kept, V vocabulary.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtrain.console import progress, say
from mtrain.data.batch import PairBatch
from mtrain.data.makers.padded import BatchMaker
from mtrain.data.store import TEACHER, IntArray, TokenStore, Vectors, token_dtype, vector_dtype
from mtrain.data.vector_writer import OFFSET_BYTES, VectorWriter, check_room
from mtrain.errors import UserError
from mtrain.inference.search import ready
from mtrain.inference.teacher import KEY, TokenTeacher, check_positions
from mtrain.models import SearchedModel
from mtrain.runtime.threads import ordered_map
from mtrain.text.lines import file_digests

BLOCK_PAIRS = 2000  # whose distributions are in memory at once
MOST_LOGITS = 1 << 26  # of a batch: 268 MB in fp32


def add_teacher(folder: Path, manifest: dict[str, Any], teacher: TokenTeacher, top_k: int) -> None:
    """Compute a teacher's likeliest tokens for the split `train`, and complete the manifest.

    Both have the same vocabulary. Raises `UserError`, before it computes any, if the teacher does
    not fit these data, or if the disk has no room.
    """
    about = manifest["splits"]["train"]
    store = TokenStore(folder / "train", about["columns"], about["vocab_size"], "")
    vocab_size = teacher.tokenizers.target.vocab_size
    _check(teacher, store, top_k)
    num_places = len(store.target.tokens) + len(store)
    kinds = vector_dtype(top_k, token_dtype(vocab_size)), vector_dtype(top_k)
    size = num_places * sum(np.dtype(kind).itemsize for kind in kinds)
    size += 2 * OFFSET_BYTES * (len(store) + 1)
    told = f"{num_places:,} distributions of {top_k} tokens, {size / 1e9:,.3f} GB"
    check_room(folder, size, f"distillation: {told}", "lower distillation.top_k")
    precision = teacher.precision
    say(f"distillation: {told}, by {teacher.checkpoints} on {precision.device} in {precision.name}")
    _write(folder / "train", store, teacher, kinds, top_k)
    about["columns"] |= zip(TEACHER, kinds, strict=True)
    about["sha256"] = file_digests(folder / "train")
    content = f"{about['fingerprint']}/{teacher.identity}/{top_k}"
    about["fingerprint"] = hashlib.sha256(content.encode()).hexdigest()
    manifest["teacher"] = {
        "model": " + ".join(run.name for run in teacher.runs),
        "top_k": top_k,
        "places": num_places,
        "bytes": size,
    }


@torch.inference_mode()
def likeliest_tokens(model: SearchedModel, batch: PairBatch, top_k: int) -> tuple[Tensor, ...]:
    """Return the likeliest tokens at each place of a target, and their log probabilities.

    Both are (B,T,K), the likeliest first; the log probabilities are in fp32.
    """
    log_probs = torch.log_softmax(model.logits(batch).float(), dim=2)
    known, ids = log_probs.topk(top_k, dim=2)
    return ids, known


def _check(teacher: TokenTeacher, store: TokenStore, top_k: int) -> None:
    longest = max(int(side.lengths.max(initial=0)) + 1 for side in (store.source, store.target))
    check_positions(longest, teacher.model.max_positions, teacher.name)
    vocab_size = teacher.tokenizers.target.vocab_size
    if top_k > vocab_size:
        raise UserError(
            f"distillation.top_k: {top_k}, and the vocabulary has {vocab_size:,} tokens",
            f"set distillation.top_k: {vocab_size}, or less",
        )


def _write(
    folder: Path, store: TokenStore, teacher: TokenTeacher, kinds: tuple[str, str], top_k: int
) -> None:
    """Write both columns, block by block."""
    vocab_size = teacher.tokenizers.target.vocab_size
    batch_tokens = max(1, min(teacher.batch_tokens, MOST_LOGITS // vocab_size))
    maker = BatchMaker(store, teacher.tokenizers, teacher.model.max_positions, batch_tokens)
    compute = _computing(maker, teacher, top_k)
    dtypes = [np.dtype(kind).base for kind in kinds]
    with (
        VectorWriter(folder, TEACHER[0]) as of_ids,
        VectorWriter(folder, TEACHER[1]) as of_log_probs,
        progress("computing the teacher's distributions", len(store), "pairs") as shown,
        ordered_map(compute, teacher.precision.device) as each,
    ):
        for start in range(0, len(store), BLOCK_PAIRS):
            rows = np.arange(start, min(start + BLOCK_PAIRS, len(store)))
            found: dict[int, list[Vectors]] = {}
            plan = maker.plan_in_order(rows)
            for batch_rows, columns in zip(plan, each(plan), strict=True):
                lengths = (store.target.lengths[batch_rows] + 1).tolist()
                kept = [column.astype(dtype)
                        for column, dtype in zip(columns, dtypes, strict=True)]  # fmt: skip
                for place, row in enumerate(batch_rows.tolist()):
                    found[row] = [column[place, : lengths[place]] for column in kept]
                shown.advance(len(batch_rows))
            of_ids.append([found[row][0] for row in rows.tolist()])
            of_log_probs.append([found[row][1] for row in rows.tolist()])


def _computing(
    maker: BatchMaker, teacher: TokenTeacher, top_k: int
) -> Callable[[IntArray], list[Vectors]]:
    model, autocast = ready(teacher.model.eval(), teacher.precision)

    def compute(rows: IntArray) -> list[Vectors]:
        batch = maker.make(rows).to(teacher.precision.device)
        with autocast():
            both = likeliest_tokens(model, batch, top_k)
        if bool(both[1].isnan().any()):
            raise UserError(
                f"{KEY}: {teacher.checkpoints} on {teacher.precision.device} in "
                f"{teacher.precision.name}: the teacher's probabilities are NaN",
                "set decoding.precision: fp32, or name another teacher",
            )
        return [tensor.cpu().numpy() for tensor in both]

    return compute
