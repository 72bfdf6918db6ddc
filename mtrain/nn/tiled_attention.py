"""Attention on a GPU that skips what no token may attend to: torch's FlexAttention.

It works on square tiles of TILE tokens: those where nothing is allowed are skipped, those where
everything is need no mask. Segments, between which attention is allowed or not, may begin anywhere
and have any length. (Dong et al. 2024, "Flex Attention".)

Shapes: B rows, H heads, L width, Dh width of a head, N segments of a row, C tiles of a row.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from mtrain.runtime.compilation import explained_compilation

TILE = 128  # what its kernels are tuned for
SMALLEST_WIDTH = 16  # of a head: that of the smallest product in a kernel


def tile_mask(segments: Tensor, allowed: Tensor, device: torch.device) -> BlockMask:
    """Return the mask, on a device, of tokens whose segments may attend to each other.

    `segments` (B,L) numbers that of each token from 0; `allowed` (B,N,N) are truth values. Both are
    on a CPU.
    """
    num_rows, width = segments.shape
    num_tiles = -(-width // TILE)
    # tokens of each segment in each tile, (B,C,N)
    counts = torch.zeros(num_rows, num_tiles, allowed.shape[1], device="cpu")
    tiles = (torch.arange(width, device="cpu") // TILE).expand(num_rows, -1)
    rows = torch.arange(num_rows, device="cpu")[:, None].expand(-1, width)
    counts.index_put_((rows, tiles, segments), torch.ones((), device="cpu"), accumulate=True)
    pairs = counts @ allowed.float() @ counts.transpose(1, 2)  # allowed pairs of tokens (B,C,C)
    is_whole = pairs == TILE * TILE
    masked, whole = (_listed(tiles, device) for tiles in ((pairs > 0) & ~is_whole, is_whole))
    segments, allowed = segments.to(device), allowed.to(device)

    def is_allowed(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return allowed[row, segments[row, query], segments[row, key]]

    found: BlockMask = BlockMask.from_kv_blocks(
        *masked, *whole, BLOCK_SIZE=TILE, mask_mod=is_allowed, seq_lengths=(width, width)
    )
    return found


def attend_in_tiles(query: Tensor, keys: Tensor, values: Tensor, mask: BlockMask) -> Tensor:
    """Return the mean values (B,H,L,Dh) that queries attend to; zero where they may to nothing.

    Raises UserError if torch cannot compile the kernel, which it does on a GPU.
    """
    attend: Callable[..., Any] = flex_attention  # computes the matrix of all weights
    if query.is_cuda:
        attend = _compiled()
    alike = (x.to(values.dtype) for x in (query, keys))  # autocast leaves rotated ones in fp32
    hint = "install a C compiler, or use device: cpu"
    with explained_compilation("block-sparse attention", hint):
        found: Tensor = attend(*alike, values, block_mask=mask)
    return found


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Any]:
    kernel: Callable[..., Any] = torch.compile(flex_attention)
    return kernel


def _listed(chosen: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the number (B,1,C) and the indices (B,1,C,C) of the tiles chosen (B,C,C)."""
    count = chosen.sum(dim=-1, dtype=torch.int32)
    order = chosen.int().argsort(dim=-1, descending=True, stable=True).int()
    return count[:, None].to(device), order[:, None].to(device)
