"""Parts of a text that a translation keeps verbatim: variables, tags, addresses."""

import re
from collections import Counter

PLACEHOLDER = re.compile(
    r"""
    (?:https?://|www\.)[!\#-;=?-~]+                    # a URL, in ASCII
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+                     # an e-mail address
    | </?[a-z][\w.:-]*(?:\s[^<>]*)?/?>                 # a tag
    | [$%\#]?\{+[\w.:!$@-]*\}+                         # {name}, ${name}, {{name}}, {0:.2f}
    | (?<!\d)%(?:\(\w+\))?(?:\d+\$)?[-+0\#]*\d*(?:\.\d+)?(?:hh?|ll?|[jztLq])?
      [diouxXeEfFgGcrsa@](?![a-z])                     # %s, %d, %1$s, %(name)s, %.2f, %@
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
