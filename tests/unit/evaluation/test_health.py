"""Health of lines in several scripts: what is a problem, what is none, how lines are counted."""

import json

import pytest

from mtrain.evaluation.health import (
    ANY,
    PROBLEMS,
    STATUSES,
    Facts,
    HealthTally,
    health_of,
    judge_line,
    report_line,
)
from tests.traps import TRAPS

SENTENCES = {
    "en": "Five dogs sleep here",
    "de": "Hier schlafen fünf Hunde",
    "ru": "Здесь спят собаки",
    "zh": "五只狗睡在这里",
    "ja": "犬が五匹寝ています",
    "ar": "تنام الكلاب هنا",
    "el": "Τα σκυλιά κοιμούνται",
    "hi": "कुत्ते यहाँ सोते हैं",
    "th": "สุนัขนอนที่นี่",
    "ko": "개들이 여기서 잔다",
}

# direction: source | output | problems, a line each
CASES = """
en-de: A dog runs in the park. | Ein Hund läuft im Park. | ok
en-de: A dog runs. |  | empty
en-de: |  | ok
en-de: The dog. | Der Hund Hund Hund. | repeated
en-de: The dog. | Der Hund, der Hund, der Hund läuft. | repeated
en-de: The dog. | Ein sehr sehr großer Hund. | ok
en-de: No, no, no! | Nein, nein, nein! | ok
en-de: I am 5, 5, 5. | Ich bin 5, 5, 5. | ok
en-de: Yes. | Ja............................ | repeated
en-zh: I like cats. | 我我我我我我我喜欢猫。 | repeated
en-zh: I like cats. | 喜欢喜欢喜欢猫。 | repeated
en-zh: I like cats. | 我喜欢猫猫猫。 | ok
en-zh: It costs 1000000. | 价格是1000000。 | ok
en-ja: Thank you. | ありがとうありがとうありがとう | repeated
en-ru: The dog. | Собака собака собака. | repeated
en-ar: The dog. | الكلب الكلب الكلب | repeated
en-de: A dog runs in the park. | A dog runs in the park. | copied
en-de: A dog runs in the park. | a DOG runs, in the park | copied
de-en: Ein Hund läuft. | Ein Hund läuft. | copied
en-de: New York City | New York City | ok
en-de: Ludwig van Beethoven | Ludwig van Beethoven | ok
en-de: BBC News (bbc.co.uk/news) | BBC News (bbc.co.uk/news) | ok
en-de: 12 + 13 = 25 | 12 + 13 = 25 | ok
en-de: T-shirt | T-Shirt | ok
en-en: A dog runs in the park. | A dog runs in the park. | ok
en-eng: A dog runs in the park. | A dog runs in the park. | ok
zh-en: 我喜欢吃苹果。 | 我喜欢吃苹果。 | copied
zh-ja: 北京 | 北京 | ok
en-de: Hello friend | Hallo 朋友 | wrong_script
en-de: Hello friend | Привет друг | wrong_script
en-ru: Hello friend | Привет, друг | ok
en-ru: A dog runs in the park. | The animal is running outside. | wrong_script
en-ru: Samsung Galaxy Note | Samsung Galaxy Note | ok
en-ru: I work at Microsoft. | Я работаю в Microsoft. | ok
ru-zh: Это ВТО. | 这是WTO。 | ok
en-de: The value. | Der α-Wert. | ok
en-de: The value. | Der λόγος. | wrong_script
el-en: Ο λόγος είναι. | The λόγος is. | ok
en-zh: I like it. | 我喜欢它です。 | wrong_script
en-ja: I like it. | 私はそれが好きです。 | ok
en-sr: A dog. | Пас. | ok
en-sr: A dog. | Pas. | ok
ar-en: مرحبا يا صديقي | Hello my friend | ok
ar-en: مرحبا يا صديقي | Hello мой friend | wrong_script
en-de: It costs 1,000.50 euros. | Es kostet 1.000,50 Euro. | ok
en-fr: It costs 1,000.50 euros. | Il coûte 1 000,50 euros. | ok
en-de: In 1999 it rained. | Es regnete. | number_lost
en-de: In 1999 it rained. | 1998 regnete es. | number_lost
en-de: 3 dogs | drei Hunde | ok
en-de: 3 dogs | 4 Hunde | number_lost
en-de: a dog | 1 Hund | ok
ar-en: في عام ١٩٩٩ | In 1999 | ok
en-ar: In 1999 | في عام ١٩٩٩ | ok
en-zh: 250 people | 250人 | ok
en-zh: 250 people | 人很多 | number_lost
en-de: Hello {name}, you are 100 % right. | Hallo {name}, du hast zu 100 % recht. | ok
en-de: Hello {name}! | Hallo {Name}! | placeholder_lost
en-de: ${a} and ${a} | ${a} und | placeholder_lost
en-de: %s of %d | %s von %d | ok
en-de: %(user)s was here. | %(benutzer)s war hier. | placeholder_lost
en-de: Save 50% directly | Direkt 50 % sparen | ok
en-de: Press <b>Start</b>. | Drücke <b>Start. | placeholder_lost
en-de: if a < b and c > d | wenn a < b und c > d | ok
en-de: See (https://example.com/a). | Siehe https://example.com/a! | ok
en-de: See https://example.com/a | Siehe https://example.org/a | placeholder_lost
en-de: See www.a.com and www.a.com/b | Siehe www.a.com/b | placeholder_lost
en-de: See www.a.com and www.a.com/b | Siehe www.a.com/b und www.a.com | ok
en-de: It costs a lot of yen. | Es kostet 1000000000000 Yen. | ok
en-de: One, one, one | 1 1 1 | ok
zh-en: 请看https://example.com/a。谢谢 | See https://example.com/a, thanks | ok
zh-en: 写信给info@example.com吧 | Write to info@example.com | ok
en-de: Write to info@example.com. | Schreib an info@beispiel.de. | placeholder_lost
en-ru: A cat in 1999 and {x} | cat cat cat 猫 | repeated wrong_script number_lost placeholder_lost
"""


def cases() -> list[object]:
    found = []
    for line in CASES.strip().split("\n"):
        direction, _, rest = line.partition(":")
        source, output, wanted = (part.strip() for part in rest.split("|"))
        parameters = direction.split("-"), source, output, wanted.split()
        found.append(pytest.param(*parameters, id=line.encode("unicode_escape").decode()))
    return found


@pytest.mark.parametrize(("languages", "source", "output", "wanted"), cases())
def test_the_problems_of_a_line(
    languages: list[str], source: str, output: str, wanted: list[str]
) -> None:
    line = judge_line(source, output, (languages[0], languages[1]))
    assert line.statuses == ([*wanted] if source else ["empty"])
    assert line.has_problem == (wanted != ["ok"])


@pytest.mark.parametrize(("language", "text"), SENTENCES.items(), ids=SENTENCES)
def test_a_good_line_is_ok_in_any_script_and_every_problem_shows(language: str, text: str) -> None:
    source, languages = "Cinq chiens dorment ici", ("fr", language)
    assert judge_line(source, text, languages).statuses == ["ok"]
    assert judge_line(source, f"{text} " * 3, languages).statuses == ["repeated"]
    assert judge_line(source, f"{text} ໝາ", languages).statuses == ["wrong_script"]
    assert "copied" in judge_line(text, text, (language, "fr")).found


def test_what_a_reference_has_as_well_is_no_problem() -> None:
    spelled = ("In 20 days.", "In zwanzig Tagen.", ("en", "de"))
    assert judge_line(*spelled).statuses == ["number_lost"]
    assert judge_line(*spelled, references=["Es dauert zwanzig Tage."]).statuses == ["ok"]
    assert judge_line(*spelled, references=["In 20 Tagen."]).statuses == ["number_lost"]
    assert judge_line(*spelled, references=["In 20 Tagen.", "Bald."]).statuses == ["ok"]
    copied = ("open source software", "Open source software", ("en", "de"))
    assert judge_line(*copied).statuses == ["copied"]
    assert judge_line(*copied, references=["Open-Source-Software"]).statuses == ["ok"]


def test_without_a_source_the_references_are_what_it_is_judged_by() -> None:
    languages = ("", "de")
    assert judge_line(None, "", languages, references=["Ein Hund."]).statuses == ["empty"]
    assert judge_line(None, "", languages, references=[""]).statuses == ["ok"]
    assert judge_line(None, "ja ja ja", languages, references=["Ja, ja, ja"]).statuses == ["ok"]
    assert judge_line(None, "ja ja ja", languages, references=["Ja"]).statuses == ["repeated"]
    assert judge_line(None, "Hund 犬", languages, references=["Hund 7"]).statuses == [
        "wrong_script"
    ]


def test_facts_of_the_search_are_told_in_the_order_of_the_report() -> None:
    line = judge_line("A dog", "猫猫", ("en", "de"), Facts(3, is_cut_off=True, is_valid_text=False))
    assert line.statuses == ["split:3", "cut_off", "wrong_script", "invalid_utf8"]
    split = judge_line("A dog.", "Ein Hund.", ("en", "de"), Facts(num_segments=2))
    assert split.statuses == ["split:2"]
    assert not split.has_problem
    assert tuple(status for status in STATUSES if status != "split") == PROBLEMS


def test_a_report_line_is_json_also_of_a_score_that_is_no_number() -> None:
    line = judge_line("A dog.", "Ein Hund.", ("en", "de"))
    told = json.loads(report_line(7, line, -0.25, 4))
    assert told == {"line": 7, "status": ["ok"], "score": -0.25, "tokens": 4}
    assert json.loads(report_line(8, line, float("-inf"), 0))["score"] is None


def test_a_set_counts_its_lines_and_names_the_first() -> None:
    outputs = ["Ein Hund.", "", "Hund Hund Hund 犬", "Ein Hund."]
    judged = [judge_line("A dog.", output, ("en", "de")) for output in outputs]
    health = health_of(judged, range(4), unknown=["cut_off"])
    assert (health.lines, health.any) == (4, 2)
    counted = {name: count for name, count in health.counts.items() if count}
    assert counted == {"empty": 1, "repeated": 1, "wrong_script": 1}
    assert health.counts["cut_off"] is None
    assert health.counts.keys() == set(STATUSES)
    assert health.first_lines == {"empty": 2, "repeated": 3, "wrong_script": 3, ANY: 2}
    assert health.length_ratio == (2 + 0 + 4 + 2) / 8
    assert HealthTally().health().length_ratio == 0


def test_counts_of_parts_add_up_in_any_order() -> None:
    outputs = ["Ein Hund.", "", "Hund Hund Hund 犬", "", "Hund Hund Hund"]
    judged = [judge_line("A dog.", output, ("en", "de")) for output in outputs]
    together = HealthTally()
    for part in ((3, 4), (0, 1, 2)):
        tally = HealthTally()
        for row in part:
            tally.note(row + 1, judged[row])
        together.add(json.loads(json.dumps(tally.notes())))
    assert together.health() == health_of(judged, range(5))


def test_the_length_ratio_is_by_characters_where_one_side_has_no_spaces() -> None:
    assert health_of([judge_line("ab cd", "猫猫猫", ("en", "zh"))], [0]).length_ratio == 3 / 4
    assert health_of([judge_line("猫猫", "ab cd", ("zh", "en"))], [0]).length_ratio == 4 / 2
    with_reference = judge_line("猫猫", "ab cd", ("zh", "en"), references=["a b c d"])
    assert health_of([with_reference], [0]).length_ratio == 2 / 4


def test_no_text_is_too_odd_or_too_long_to_be_judged() -> None:
    for name, trap in TRAPS.items():
        for source, output in ((trap.clean, "Ein Hund."), ("A dog.", trap.clean)):
            assert judge_line(source, output, ("en", "de")).statuses, name
