"""The table of teacher and student: what it says of eight bits, and of a student alone."""

from mtrain.commands.distill_report import Report, Row


def row(test: str, system: str, score: float, difference: float | None = None) -> Row:
    return Row(test, system, 1, 1.0, {}, {"BLEU": score}, difference)


def test_eight_bits_are_judged_on_every_set() -> None:
    rows = [row(test, system, score) for test, int8 in (("one", 29), ("two", 26))
            for system, score in (("teacher", 30), ("student", 29), ("student int8", int8))
            ]  # fmt: skip
    assert Report("BLEU", {}, rows).costs_of_int8() == {"one": 0, "two": 3}
    assert Report("BLEU", {}, rows[:2]).costs_of_int8() == {}


def test_a_student_without_its_teachers_score_has_a_table_and_no_gap() -> None:
    report = Report("BLEU", {}, [row("one", "student", 29)])
    assert not report.gaps()
    assert "student" in report.as_text()
