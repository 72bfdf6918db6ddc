"""Health of lines as they are translated: a report on each, and limits for all."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtrain.commands.health import facts_of
from mtrain.commands.score_text import health_line
from mtrain.config.corpora import Languages
from mtrain.console import say
from mtrain.decoding.translator import Translation
from mtrain.errors import EXIT_GATE_FAILED, UserError
from mtrain.evaluation.health import HealthTally, judge_line, report_line
from mtrain.evaluation.limits import Limit, exceeded_limits
from mtrain.text.lines import clean_bytes


class HealthWatch:
    """Judges translated lines one after another."""

    def __init__(self, languages: Languages, limits: Sequence[Limit]) -> None:
        self._languages = languages
        self._limits = limits
        self._tally = HealthTally()

    def resume(self, notes: Mapping[str, Any]) -> None:
        """Continue the counts that `notes` returned."""
        self._tally = HealthTally.resumed(notes)

    def notes(self) -> dict[str, Any]:
        """Return the counts so far, as JSON values."""
        return self._tally.notes()

    def judge(
        self, places: range, lines: Sequence[bytes], translations: Sequence[Translation]
    ) -> bytes:
        """Return a report of JSON lines on translated lines, whose places count from 0."""
        reports = []
        for place, line, translation in zip(places, lines, translations, strict=True):
            judged = judge_line(
                clean_bytes(line), translation.text, self._languages, facts_of(translation)
            )
            self._tally.note(place + 1, judged)
            tokens = sum(len(target) for _, target in translation.segments)
            reports.append(report_line(place + 1, judged, translation.score, tokens))
        return "".join(f"{report}\n" for report in reports).encode()

    def check(self, where: object) -> None:
        """Say how healthy all lines are; raise UserError if they exceed a limit."""
        health = self._tally.health()
        say(f"{where}: health: {health_line(health)}")
        if messages := exceeded_limits(self._limits, health):
            raise UserError(
                "\n".join(f"{where}: {message}" for message in messages),
                exit_code=EXIT_GATE_FAILED,
            )
