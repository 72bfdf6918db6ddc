"""Reports of `mtrain score` for a CI: JUnit's XML, and Markdown for a comment.

Texts are escaped. `failures` are the messages of each set that fails a gate, in the sets' order.
"""

import html
from collections.abc import Sequence
from xml.etree import ElementTree

from mtrain.commands.score_text import WORSE_TITLE, as_text, printable, worse_lines
from mtrain.evaluation.scored import ScoredSet

Failures = Sequence[Sequence[str]]


def junit(scored: Sequence[ScoredSet], failures: Failures, class_name: str) -> bytes:
    """Return a test suite with a test case for each set, its scores as system-out."""
    suite = ElementTree.Element(
        "testsuite",
        name="mtrain score",
        tests=str(len(scored)),
        failures=str(sum(map(bool, failures))),
        errors="0",
        skipped="0",
    )
    for entry, messages in zip(scored, failures, strict=True):
        names = {"classname": printable(class_name), "name": printable(entry.name)}
        case = ElementTree.SubElement(suite, "testcase", names, time="0")
        if messages:
            told = printable("; ".join(messages))
            failure = ElementTree.SubElement(case, "failure", message=told)
            lines = [*messages, *worse_lines(entry.worse)]
            failure.text = "\n".join(map(printable, lines))
        output = ElementTree.SubElement(case, "system-out")
        output.text = "\n".join(map(printable, as_text([entry]).split("\n")))
    ElementTree.indent(suite)
    content: bytes = ElementTree.tostring(suite, "utf-8", xml_declaration=True)
    return content + b"\n"


def markdown(scored: Sequence[ScoredSet], failures: Failures) -> bytes:
    """Return a table for each set and, folded, the sentences that got worse.

    Texts stand in HTML blocks, where Markdown has no meaning and nobody is mentioned.
    """
    messages = [message for each in failures for message in each]
    parts = ["## mtrain score: failed", _pre(messages)] if messages else ["## mtrain score"]
    for entry in scored:
        title = ", ".join(filter(None, (entry.name, entry.direction)))
        parts.append(f"<h3><code>{_escape(title)}</code>, {entry.sentences:,} sentences</h3>")
        parts.append(_table(entry))
        if entry.worse:
            lines = _pre(worse_lines(entry.worse))
            parts.append(f"<details><summary>The {WORSE_TITLE}</summary>\n\n{lines}\n\n</details>")
    return ("\n\n".join(parts) + "\n").encode()


def _table(entry: ScoredSet) -> str:
    compared = {paired.name: paired for paired in entry.comparison}
    columns = ["score", "before", "now", "difference", "p"] if compared else ["score", "now"]
    rule = " | ".join(["---", *["---:"] * (len(columns) - 1), "---"])
    lines = [f"| {' | '.join(columns)} | signature |", f"| {rule} |"]
    for figure in entry.scores:
        cells = [figure.name, f"{figure.value:.2f}"]
        if compared:
            paired = compared.get(figure.name)
            before, difference, p_value = (
                (f"{paired.baseline:.2f}", f"{figure.value - paired.baseline:+.2f}",
                 f"{paired.p_value:.4f}") if paired else ("", "", "")
            )  # fmt: skip
            cells = [figure.name, before, f"{figure.value:.2f}", difference, p_value]
        signature = figure.signature.replace("|", "\\|")
        lines.append(f"| {' | '.join(cells)} | `{signature}` |")
    return "\n".join(lines)


def _pre(lines: Sequence[str]) -> str:
    return "<pre>\n" + "\n".join(map(_escape, lines)) + "\n</pre>"


def _escape(text: str) -> str:
    return html.escape(printable(text), quote=False)
