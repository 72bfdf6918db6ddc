"""Greedy search's next token without most of the arithmetic, and the same one.

Products in int8, more than twice as fast as in fp32, tell each logit to within a bound. Only those
that may be the largest, two of 8,000 or so, are computed in full.

Shapes: N feature vectors, D width, V vocabulary, P vectors with a token on their shortlist.
"""

from math import inf

import torch
import torch.nn.functional as F
from torch import Tensor

from mtrain.nn.largest import CHUNK, chunk_maxima

LEVELS = 127  # of an int8, on either side of zero
CENTRE = 128  # what zero is in the uint8 that features are rounded to
ROUNDING = 1.001  # covers that the bound is itself computed in fp32
TINY = 1e-30  # instead of the largest of a row of zeros
MOST = 64  # tokens a vector; of more, all are about as quickly computed in full


def can_shortlist() -> bool:
    """Tell whether this torch and processor multiply int8, and without losing anything."""
    # the largest sums that there can be: older processors cut them off at 16 bits
    extremes = torch.full((CHUNK, CHUNK), float(LEVELS))
    try:
        product = _multiply(extremes, _pack(extremes), torch.ones(CHUNK))
    except (AttributeError, RuntimeError):  # no such operation; none for this processor
        return False
    return bool((product == CHUNK * LEVELS**2).all())


class Shortlist:
    """Finds the largest of a feature vector's products with the rows of an output matrix."""

    def __init__(self, matrix: Tensor) -> None:
        """Round `matrix` (V,D), which has to stay as it is from then on."""
        self._matrix = matrix.detach()
        rounded, scales = _round(self._matrix)
        restored = rounded * scales
        self._longest = restored.norm(dim=1).max()
        self._worst = (self._matrix - restored).norm(dim=1).max()
        # nothing more than whole chunks of tokens
        self._num_unused = -len(rounded) % CHUNK
        self._packed = _pack(F.pad(rounded, (0, 0, 0, self._num_unused)))
        self._scales = F.pad(scales[:, 0], (0, self._num_unused))

    def largest(self, features: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return each one's largest product and whose it is, both (N,), for features (N,D).

        Where something is no number, the product is none either. None: so many products are almost
        equal that this is not the way to find them.
        """
        rows, tokens = self._candidates(features)
        if len(rows) > MOST * len(features):
            return None
        products = (features[rows] * self._matrix[tokens]).sum(dim=1)  # (P,)
        best = products.new_full((len(features),), -inf).scatter_reduce(0, rows, products, "amax")
        is_best = products == best[rows]
        last = tokens.new_full((len(features),), len(self._matrix) - 1)
        return best, last.scatter_reduce(0, rows[is_best], tokens[is_best], "amin")

    def _candidates(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return every vector's number with each token whose product may be its largest, (P,).

        By Cauchy and Schwarz x w and its rounded x' w' are no further apart than
        |x - x'| |w'| + |x| |w - w'|. So the largest is not further below the largest rounded one
        than twice that.
        """
        rounded, scales = _round(features)
        scaled = features / scales
        bound = (scaled - rounded).norm(dim=1) * self._longest + scaled.norm(dim=1) * self._worst
        logits = _multiply(rounded, self._packed, self._scales)
        if self._num_unused:
            logits[:, -self._num_unused :] = -inf
        maxima = chunk_maxima(logits)
        least = (maxima.amax(dim=1) - 2 * ROUNDING * bound)[:, None]
        rows, chunks = (maxima >= least).nonzero().unbind(1)
        near = logits.view(*maxima.shape, CHUNK)[rows, chunks]
        places, within = (near >= least[rows]).nonzero().unbind(1)
        return rows[places], chunks[places] * CHUNK + within


def _round(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return whole numbers of an int8's range, and what each row is to be multiplied by."""
    scales = (matrix.abs().amax(dim=1, keepdim=True) / LEVELS).clamp(min=TINY)
    return (matrix / scales).round(), scales


def _pack(rounded: Tensor) -> Tensor:
    packed: Tensor = torch.ops.onednn.qlinear_prepack(rounded.to(torch.int8), None)
    return packed


def _multiply(rounded: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """Return (N,V) in fp32: rounded features (N,D) times a packed matrix, times its scales (V,)."""
    product: Tensor = torch.ops.onednn.qlinear_pointwise.default(
        (rounded + CENTRE).to(torch.uint8), 1.0, CENTRE,
        packed, scales, torch.zeros(len(scales), dtype=torch.int32),
        None, 1.0, 0, torch.float32, "none", [], "",
    )  # fmt: skip
    return product
