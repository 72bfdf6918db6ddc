"""The contract of what computes features of sources, for a model that reads them beside the ids."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from mtrain.nn.feature_attention import Features


class SourceFeatures(ABC):
    """Computes the features of lines, on the device of the model that reads them."""

    width: int  # Df

    @abstractmethod
    def of(self, texts: Sequence[str]) -> Features:
        """Return the features of some texts as one batch."""


def features_of(
    source_features: SourceFeatures | None, texts: Sequence[str], rows: Iterable[int]
) -> Features | None:
    """Return the features of the texts `rows`, or None for a model that reads none."""
    if source_features is None:
        return None
    return source_features.of([texts[row] for row in rows])
