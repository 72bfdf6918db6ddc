"""What `mtrain translate` writes of each block of lines: texts, word alignments, their health."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtrain.commands.health import facts_of
from mtrain.commands.score_text import health_line
from mtrain.config.corpora import Languages
from mtrain.console import say, warn
from mtrain.decoding.stream import LineTally
from mtrain.decoding.translator import Translation
from mtrain.errors import EXIT_GATE_FAILED, UserError
from mtrain.evaluation.alignment import format_links
from mtrain.evaluation.health import Health, HealthTally, judge_line, report_line
from mtrain.evaluation.limits import Limit, exceeded_limits
from mtrain.inference.linking import Linker
from mtrain.text.lines import clean_bytes, warn_of_invalid


@dataclass(frozen=True)
class Block:
    """Lines of a text, with their places in it from 0, and their translations."""

    places: range
    lines: list[bytes]
    translations: list[Translation]


class Writer(ABC):
    """Turns blocks into the content of an output, with counts that a resumed one continues."""

    @abstractmethod
    def write(self, block: Block) -> bytes:
        """Return what the output holds of a block."""

    def notes(self) -> dict[str, Any]:
        """Return the counts so far, as JSON values."""
        return {}

    def resume(self, notes: Mapping[str, Any]) -> None:
        """Continue the counts that `notes` returned."""
        return

    def finish(self, where: object) -> None:
        """Say what was counted; raise UserError if it is not what it should be."""
        return


class TextWriter(Writer):
    """Translations; with n_best over 1 each is a line `line number ||| text ||| score`."""

    def __init__(self, n_best: int) -> None:
        self._n_best = n_best

    def write(self, block: Block) -> bytes:
        placed = zip(block.places, block.translations, strict=True)
        return "".join(self._format(each, place + 1) for place, each in placed).encode()

    def _format(self, translation: Translation, line: int) -> str:
        if self._n_best == 1:
            return f"{translation.texts[0]}\n"
        scored = zip(translation.texts, translation.scores, strict=True)
        return "".join(f"{line} ||| {text} ||| {score:.6f}\n" for text, score in scored)


class LinkWriter(Writer):
    """The word alignment of each line and its best translation."""

    def __init__(self, linker: Linker) -> None:
        self._linker = linker

    def write(self, block: Block) -> bytes:
        links = self._linker.link_translations(block.lines, block.translations)
        return b"".join(format_links(line).encode() + b"\n" for line in links)

    def notes(self) -> dict[str, Any]:
        return dict(self._linker.unlinked)

    def resume(self, notes: Mapping[str, Any]) -> None:
        self._linker.unlinked.update(notes)

    def finish(self, where: object) -> None:
        self._linker.report()


class HealthWriter(Writer):
    """A line of JSON on the health of each line; in the end, limits for all."""

    def __init__(self, languages: Languages, limits: Sequence[Limit]) -> None:
        self._languages = languages
        self._limits = limits
        self._tally = HealthTally()

    def write(self, block: Block) -> bytes:
        reports = []
        rows = zip(block.places, block.lines, block.translations, strict=True)
        for place, line, translation in rows:
            judged = judge_line(
                clean_bytes(line), translation.text, self._languages, facts_of(translation)
            )
            self._tally.note(place + 1, judged)
            reports.append(
                report_line(place + 1, judged, translation.score, translation.num_tokens)
            )
        return "".join(f"{report}\n" for report in reports).encode()

    def notes(self) -> dict[str, Any]:
        return self._tally.notes()

    def resume(self, notes: Mapping[str, Any]) -> None:
        self._tally.add(notes)

    def finish(self, where: object) -> None:
        judge(where, self._tally.health(), self._limits)


def say_tally(where: object, tally: LineTally) -> None:
    """Say what became of the lines of a text."""
    if tally.split:
        warn(f"{tally.split} lines were longer than the model reads at once: split and rejoined")
    warn_of_invalid(where, tally.invalid)
    say(f"{where}: {tally}")


def judge(where: object, health: Health, limits: Sequence[Limit]) -> None:
    """Say the health of a text. Raises UserError if a limit is exceeded."""
    say(f"{where}: health: {health_line(health)}")
    if messages := exceeded_limits(limits, health):
        raise UserError(
            "\n".join(f"{where}: {message}" for message in messages),
            exit_code=EXIT_GATE_FAILED,
        )
