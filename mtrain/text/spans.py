"""Spans of a text that are no words: placeholders, tags, URLs, e-mail addresses and numbers.

What protects them and what counts those that got lost read them alike, by these patterns.
"""

import re

TAG = re.compile(r"<(/?[a-z][a-z0-9]{0,20}|!--)(?=[\s/>-])[^<>]*>", re.IGNORECASE)
# What is replaced at run time, in the usual notations. Of ICU's {count, plural, one {# day}} only
# names in braces inside count: the rest is text to translate.
PLACEHOLDER = re.compile(
    r"""
    \{\{[^{}]*\}\} | \{%[^{}]*%\}  # {{ name }} and {% block %}: Jinja, Mustache
  | \[%[^][]*%\]                   # [%key:common::state%]: Home Assistant
  | [$%]?\{[\w.:!\[\]+-]*\}        # {name}, {0}, {}, {x:.2f}, ${name}, %{name}
  | %\(\w+\)[-+0\#]*(?:[1-9]\d*)?(?:\.\d+)?[a-zA-Z]  # %(name)s: Python
  | (?<![\d%])%(?:\d+\$)?[-+0\#]*(?:[1-9]\d*)?(?:\.\d+)?
    (?:hh?|ll?|[qjzt])?[diouxXeEfFgGcs@](?![a-zA-Z])
  """,  # the last: %s, %1$d, %.2f, %@, but not the sign of 100 % or 100%
    re.VERBOSE,
)
# In ASCII, so that they end where text in another script follows; a stop belongs to the sentence.
URL = re.compile(r"(?:(?:https?|ftp)://|(?<![A-Za-z0-9])www\.)[!#-;=?-~]*[\w/#$%&*+=@~-]", re.ASCII)
EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.ASCII)
# Digits alone: separators of thousands and decimals differ between languages and are translated.
NUMBER = re.compile(r"(?<![A-Za-z_\d])\d+")

# A text without any of these strings has no such span: most texts are not searched.
NEEDLES = {"placeholders": ("{", "%"), "tags": ("<",), "urls": ("://", "www."), "emails": ("@",)}
SPANS = {"placeholders": PLACEHOLDER, "tags": TAG, "urls": URL, "emails": EMAIL, "numbers": NUMBER}
