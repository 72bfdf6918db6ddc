"""Parts of a text that a translation keeps verbatim: placeholders, tags, addresses."""

from collections import Counter

from mtrain.text.spans import NEEDLES, SPANS


def placeholders(text: str) -> list[str]:
    """Return the placeholders, tags, URLs and e-mail addresses of a text."""
    return [match[0] for kind, needles in NEEDLES.items()
            if any(needle in text for needle in needles)
            for match in SPANS[kind].finditer(text)]  # fmt: skip


def lost_placeholders(source: str, target: str) -> list[str]:
    """Return those that the target has less often than the source."""
    counts = Counter(placeholders(source))
    return [each for each, count in counts.items() if target.count(each) < count]
