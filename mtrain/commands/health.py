"""Health of what a search has found: what a line's problems depend on beside its texts."""

from typing import TYPE_CHECKING

from mtrain.evaluation.health import Facts

if TYPE_CHECKING:
    from mtrain.decoding.translator import Translation


def facts_of(translation: "Translation") -> Facts:
    """Return the facts of a translation that its health depends on."""
    return Facts(translation.num_segments, translation.is_cut_off, translation.is_valid_text)
