"""Reports of `mtrain score` for a CI: JUnit's XML, and Markdown for a comment.

Texts are escaped. `failures` are the messages of each set that fails a gate, in the sets' order.
"""

import html
from collections.abc import Sequence
from xml.etree import ElementTree

from mtrain.commands.score_text import (
    WORSE_TITLE,
    as_text,
    failed_lines,
    health_line,
    printable,
    suite_lines,
    worse_lines,
)
from mtrain.evaluation.scored import Scored, ScoredSet

Failures = Sequence[Sequence[str]]


def junit(scored: Scored, failures: Failures, of_suite: Sequence[str], class_name: str) -> bytes:
    """Return a test case for each set, and one for a suite, with the scores as system-out."""
    cases = [
        (entry.name, messages, worse_lines(entry.worse), as_text(Scored([entry])).split("\n"))
        for entry, messages in zip(scored.sets, failures, strict=True)
    ]
    if behaviour := scored.suite:
        name = f"suite {behaviour.path}"
        cases.append((name, of_suite, failed_lines(behaviour), suite_lines(behaviour)))
    suite = ElementTree.Element(
        "testsuite",
        name="mtrain score",
        tests=str(len(cases)),
        failures=str(sum(bool(messages) for _, messages, _, _ in cases)),
        errors="0",
        skipped="0",
    )
    for name, messages, details, shown in cases:
        names = {"classname": printable(class_name), "name": printable(name)}
        case = ElementTree.SubElement(suite, "testcase", names, time="0")
        if messages:
            told = printable("; ".join(messages))
            failure = ElementTree.SubElement(case, "failure", message=told)
            failure.text = "\n".join(map(printable, [*messages, *details]))
        output = ElementTree.SubElement(case, "system-out")
        output.text = "\n".join(map(printable, shown))
    ElementTree.indent(suite)
    content: bytes = ElementTree.tostring(suite, "utf-8", xml_declaration=True)
    return content + b"\n"


def markdown(scored: Scored, failures: Failures, of_suite: Sequence[str]) -> bytes:
    """Return a table and the health of each set, and of a suite.

    Folded are the sentences that got worse and the cases that failed.

    Texts stand in HTML blocks, where Markdown has no meaning and nobody is mentioned.
    """
    messages = [message for each in (*failures, of_suite) for message in each]
    parts = ["## mtrain score: failed", _pre(messages)] if messages else ["## mtrain score"]
    for entry in scored.sets:
        title = ", ".join(filter(None, (entry.name, entry.direction)))
        parts.append(f"<h3><code>{_escape(title)}</code>, {entry.sentences:,} sentences</h3>")
        parts.append(_table(entry))
        if entry.health:
            parts.append(f"Health: {health_line(entry.health)}")
        if entry.worse:
            parts.append(_folded(f"The {WORSE_TITLE}", worse_lines(entry.worse)))
    if suite := scored.suite:
        passed = f"{suite.passed} of {suite.total} cases passed"
        parts.append(f"<h3><code>{_escape(suite.path)}</code>, {suite.direction}: {passed}</h3>")
        rows = [f"| {_cell(group.name)} | {group.passed} | {group.total} |"
                for group in suite.groups]  # fmt: skip
        parts.append("\n".join(["| group | passed | cases |", "| --- | ---: | ---: |", *rows]))
        if suite.failed:
            parts.append(_folded("Failed cases", failed_lines(suite)))
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


def _cell(text: str) -> str:
    return f"<code>{_escape(text)}</code>".replace("|", "&#124;")


def _folded(title: str, lines: Sequence[str]) -> str:
    return f"<details><summary>{title}</summary>\n\n{_pre(lines)}\n\n</details>"


def _pre(lines: Sequence[str]) -> str:
    return "<pre>\n" + "\n".join(map(_escape, lines)) + "\n</pre>"


def _escape(text: str) -> str:
    return html.escape(printable(text), quote=False)
