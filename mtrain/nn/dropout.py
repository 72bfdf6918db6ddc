"""Dropout (Srivastava 2014), on a CPU three times as fast as torch's; drop-net; token cut-off."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS = 1 << 16
# this thread's generator on a CPU, so that no other thread draws from it; None: torch's own
_GENERATOR: ContextVar[torch.Generator | None] = ContextVar("generator", default=None)
_CUT: ContextVar[float] = ContextVar("cut", default=0.0)  # share of the tokens


@contextmanager
def seeded_dropout(seed: int) -> Iterator[None]:
    """Seed this thread's dropout on a CPU inside the block."""
    token = _GENERATOR.set(torch.Generator().manual_seed(seed))
    try:
        yield
    finally:
        _GENERATOR.reset(token)


@contextmanager
def cutting_tokens(share: float) -> Iterator[None]:
    """Let `cut_tokens` cut off this share of the tokens as well, in this thread's block."""
    token = _CUT.set(share)
    try:
        yield
    finally:
        _CUT.reset(token)


def cut_tokens(embeddings: Tensor, rate: float = 0.0) -> Tensor:
    """Zero the embeddings (...,D) of a share of tokens: `rate`, and that of `cutting_tokens`.

    The others stay as they are (Shen et al. 2020, token cut-off).
    """
    share = 1 - (1 - rate) * (1 - _CUT.get())
    if share == 0:
        return embeddings
    generator = _GENERATOR.get() if embeddings.device.type == "cpu" else None
    shape = (*embeddings.shape[:-1], 1)
    draws = torch.rand(shape, generator=generator, device=embeddings.device)
    return embeddings * (draws >= share).to(embeddings.dtype)


def new_seed() -> int:
    """Draw a seed from this thread's generator, for draws that a backward pass repeats."""
    return int(torch.randint(1 << 62, (), generator=_GENERATOR.get()))


def dropout(x: Tensor, rate: float, is_training: bool) -> Tensor:
    """Zero a share `rate` of the elements and scale the others up by 1/(1-rate).

    On a CPU the draws take most of the time. So each 64-bit draw serves four elements there, and
    the rate is rounded to 1/65536.
    """
    if not is_training or rate == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, rate)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64)
    draws.random_(-(1 << 63), None, generator=_GENERATOR.get())
    uniform = draws.view(torch.int16)[: x.numel()].view(x.shape)  # -32768 to 32767
    keep = (uniform >= round(rate * STEPS) - STEPS // 2).to(x.dtype)
    return x * keep.mul_(1 / (1 - rate))


def drop_net(one: Tensor, other: Tensor, rate: float, is_training: bool) -> Tensor:
    """Return the mean of two outputs (B,L,D); in training, for some sentences, only one of them.

    A share `rate` of the sentences gets one alone, half of them this, half the other (Zhu et al.
    2020, section 4.3, who draw for a whole batch).
    """
    if not is_training or rate == 0:
        return (one + other) / 2
    generator = _GENERATOR.get() if one.device.type == "cpu" else None
    draws = torch.rand(len(one), 1, 1, generator=generator, device=one.device)
    share = (0.5 + 0.5 * ((draws < rate / 2).float() - (draws >= 1 - rate / 2).float())).to(one)
    return share * one + (1 - share) * other
