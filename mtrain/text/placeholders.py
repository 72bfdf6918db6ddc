"""Parts of a text that a translation keeps verbatim: variables, tags, addresses."""

import re
from collections import Counter

# Bounded repetitions: a text of a million characters takes a second.
PLACEHOLDER = re.compile(
    r"""
    (?:https?://|www\.)[!\#-;=?-~]+                     # a URL, in ASCII
    | (?<![\w.+-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+      # an e-mail address
    | </?[a-z][\w.:-]{0,40}(?:\s[^<>]{0,400})?/?>        # a tag
    | [$%\#]?\{{1,3}[\w.:!$@-]{0,60}\}{1,3}             # {name}, ${name}, {{name}}, {0:.2f}
    | (?<!\d)%(?:\(\w{1,60}\))?(?:\d{1,3}\$)?[-+0\#]{0,4}\d{0,4}(?:\.\d{1,4})?
      (?:hh?|ll?|[jztLq])?[diouxXeEfFgGcrsa@](?![a-z])   # %s, %d, %1$s, %(name)s, %.2f, %@
    """,
    re.VERBOSE | re.ASCII | re.IGNORECASE,
)
AFTER_ADDRESS = ".,;:!?'\")]}"  # belongs to the sentence


def placeholders(text: str) -> list[str]:
    """Return the placeholders of a text, in order."""
    found = [match[0] for match in PLACEHOLDER.finditer(text)]
    return [each if each.startswith(("<", "{", "%", "$", "#")) else each.rstrip(AFTER_ADDRESS)
            for each in found]  # fmt: skip


def lost_placeholders(source: str, target: str) -> list[str]:
    """Return the placeholders that the target has less often than the source."""
    counts = Counter(placeholders(source))
    return [each for each, count in counts.items() if target.count(each) < count]
