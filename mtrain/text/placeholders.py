"""Parts of a text that a translation keeps verbatim: placeholders, tags, addresses."""

from collections import Counter

from mtrain.text.spans import NEEDLES, SPANS


def placeholders(text: str) -> list[str]:
    """Return the placeholders, tags, URLs and e-mail addresses of a text."""
    return [match[0] for kind, needles in NEEDLES.items()
            if any(needle in text for needle in needles)
            for match in SPANS[kind].finditer(text)]  # fmt: skip


def lost_placeholders(source: str, target: str) -> list[str]:
    """Return those that the target has less often than the source.

    One that is part of another does not count: www.a.com of www.a.com/b.
    """
    lacking = Counter(placeholders(source))
    if not lacking:
        return []
    found = placeholders(target)
    lacking -= Counter(found)
    for each in sorted(set(found), key=len, reverse=True) if lacking else ():
        target = target.replace(each, " ")
    return [each for each, count in lacking.items() if target.count(each) < count]
