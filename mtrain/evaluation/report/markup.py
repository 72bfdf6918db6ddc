"""HTML as nested calls. Every text is escaped unless a function of this module has made it."""

import html
import re
from collections.abc import Iterable, Sequence

# Control characters, lone surrogates and non-characters: a page cannot hold them.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """Text that is HTML; any other text still has to be escaped."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Return a text as HTML that shows it; HTML stays as it is."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(UNPRINTABLE.sub("\ufffd", text)))


def element(tag: str, *children: str, **attributes: object) -> Html:
    """Return an element: `class_` is the attribute class, `stroke_width` stroke-width.

    An attribute that is None is left out.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{given}>{join(children)}</{tag}>")


def join(children: Iterable[str]) -> Html:
    """Return texts and elements one after another."""
    return Html("".join(map(escape, children)))


def prose(text: str) -> Html:
    """Return a paragraph."""
    return element("p", text)


def text_of_user(text: str, tag: str = "bdi", language: str | None = None) -> Html:
    """Return text of a corpus, its direction of writing kept apart from its surroundings."""
    return element(tag, text, dir="auto", lang=language or None)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> Html:
    """Return a table whose first column names the rows."""
    lines = [
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in header)))
    title = [element("caption", caption)] if caption else []
    body = element("tbody", *lines)
    return element("div", element("table", *title, head, body), class_="wide", tabindex=0)


def details(summary: str, *children: str) -> Html:
    """Return what the reader can unfold."""
    return element("details", element("summary", summary), *children)


def section(title: str, *children: str) -> Html:
    """Return a section with an anchor of its title."""
    anchor = title.lower().replace(" ", "-")
    return element("section", element("h2", title), *children, id=anchor)
