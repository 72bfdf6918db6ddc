"""One model for several languages on the command line: tags, scores by direction, choices."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import mtrain
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.errors import UserError
from tests.cli.test_resume import digests, events
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, WORDS, every_line, succeed, write_task

GERMAN = dict(
    zip(
        WORDS,
        ["null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"],
        strict=True,
    )
)
SPLITS = ("train", "valid", "test")
CORPUS = "{{target_lang: {lang}, source: {split}.digits, target: {split}.{lang}}}"


def corpora(split: str, prefix: str = "") -> str:
    """Return one corpus in each language."""
    each = [CORPUS.format(lang=lang, split=split) for lang in ("en", "de")]
    if split == "test":
        each = [text.replace("{", f"{{name: to-{lang}, ", 1)
                for text, lang in zip(each, ("en", "de"), strict=True)]  # fmt: skip
    return f"[{', '.join(each)}]"


SETTINGS = TINY_CONFIG.split("  filters", 1)[1]
CONFIG = f"""\
run_dir: run
data:
  source_lang: qaa
  train: {corpora("train")}
  valid: {corpora("valid")}
  test: {corpora("test")}
  filters{SETTINGS}"""
TAGGED = CONFIG.replace("vocab_size: 320", 'vocab_size: 340, source_prefix: "<2{target_lang}>"')
TRAINED = TAGGED.replace("max_updates: 40", "max_updates: 500").replace(
    "valid_every: 20", "valid_every: 250"
)


def write_corpora(folder: Path) -> None:
    """Write the digits with English and with German words."""
    write_task(folder, {"train": 2000, "valid": 40, "test": 40})
    for split in SPLITS:
        english = (folder / f"{split}.words").read_text()
        (folder / f"{split}.en").write_text(english)
        words = [" ".join(map(GERMAN.__getitem__, line.split())) for line in english.splitlines()]
        (folder / f"{split}.de").write_text("\n".join(words) + "\n")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, server: None) -> Iterator[WarmCommandLine]:
    """The command line beside a run that has learnt both languages. Only to be read."""
    folder = tmp_path_factory.mktemp("languages")
    write_corpora(folder)
    (folder / "config.yaml").write_text(TRAINED)
    with closing(WarmCommandLine(folder)) as warm:
        succeed(warm, "prepare", "config.yaml")
        (folder / "train.log").write_text(succeed(warm, "train", "config.yaml").err)
        yield warm


def share_of(words: set[str], text: str) -> float:
    found = text.split()
    return sum(word in words for word in found) / len(found)


@pytest.mark.parametrize(("lang", "words"), [("en", set(GERMAN)), ("de", set(GERMAN.values()))])
def test_the_chosen_language_is_written(lang: str, words: set[str], both: WarmCommandLine) -> None:
    for choice in (("--target-lang", lang), ("--set", f"decoding.target_lang={lang}")):
        done = succeed(both, "translate", "run", "test.digits", *choice)
        assert len(every_line(done.out)) == 40
        assert share_of(words, done.out) > 0.95
        assert "<2" not in done.out
    wanted = (both.folder / f"test.{lang}").read_text()
    assert sum(map(str.__eq__, every_line(done.out), every_line(wanted))) > 30
    model = mtrain.load(both.folder / "run")
    found = model.translate(["3 1 2"], target_lang=lang)[0].text
    assert share_of(words, found) > 0.5
    with pytest.raises(UserError, match="choose one"):
        model.translate(["3 1 2"])


def test_dev_and_test_scores_are_told_by_direction_with_their_mean(both: WarmCommandLine) -> None:
    event = events(both.folder / "run", "valid")[-1]
    directions = event["directions"]
    assert set(directions) == {"qaa-en", "qaa-de"}
    for metric in ("bleu", "chrf"):
        mean = sum(scores[metric] for scores in directions.values()) / 2
        assert event[metric] == pytest.approx(mean)
    assert set(event["losses"]) == {f"valid.digits + valid.{lang}" for lang in ("en", "de")}
    assert min(event["losses"].values()) < event["loss"] < max(event["losses"].values())
    said = (both.folder / "train.log").read_text()
    assert f"(mean of qaa-en {directions['qaa-en']['bleu']:.2f}, qaa-de " in said
    answer = json.loads(succeed(both, "score", "run", "--json").out)
    bleus = [entry["scores"][0]["value"] for entry in answer["sets"]]
    assert [entry["direction"] for entry in answer["sets"]] == ["qaa-de", "qaa-en"]
    assert min(bleus) > 60
    assert answer["mean"]["BLEU"] == pytest.approx(sum(bleus) / 2)
    told = succeed(both, "score", "run").out
    assert "to-de, qaa-de, 40 sentences" in told
    assert f"mean of 2 sets: BLEU {sum(bleus) / 2:.2f}" in told


def test_the_report_tells_each_direction_with_samples_and_attention_of_its_own(
    both: WarmCommandLine,
) -> None:
    page = (both.folder / "run" / "report.html").read_text("utf-8")
    directions = events(both.folder / "run", "valid")[-1]["directions"]
    for direction, scores in directions.items():
        assert f"<h3>{direction}</h3>" in page
        row = f"<td>{direction}</td><td>40</td><td>BLEU</td><td>{scores['bleu']:.2f}</td>"
        assert row in page
    assert '<li class="c0">mean of all</li><li class="c1">qaa-en</li>' in page
    assert page.count('class="heat"') == 2
    assert "&lt;2en&gt;" in page.partition('class="heat"')[2]  # a prefix is attended to


@pytest.mark.parametrize(
    ("choice", "error", "hint"),
    [
        ((), "this model translates into en, de: choose one", "translate --target-lang en"),
        (("--target-lang", "fr"), "this model does not translate qaa to fr: its vocabulary has "
         "no piece <2fr>; it has <2", ""),
        (("--target-lang", "en de"), "no piece <2en de>", ""),
        (("--target-lang", "de", "--source-lang", "fr"),
         "decoding.source_lang: fr: this model translates from qaa", ""),
    ],
)  # fmt: skip
def test_a_missing_or_impossible_choice_is_refused(
    choice: tuple[str, ...], error: str, hint: str, both: WarmCommandLine
) -> None:
    refused = both("translate", "run", "test.digits", *choice, "--output", "refused")
    assert refused.code == 2
    assert error in refused.err
    assert hint in refused.err
    assert refused.out == ""
    assert not (both.folder / "refused").exists()


def test_a_model_of_one_direction_takes_no_other(trained: WarmCommandLine) -> None:
    same = succeed(trained, "translate", "run", "test.digits", "--target-lang", "words").out
    assert same == succeed(trained, "translate", "run", "test.digits").out
    refused = trained("translate", "run", "test.digits", "--target-lang", "de")
    assert refused.code == 2
    assert "decoding.target_lang: de: this model translates into words" in refused.err


def test_the_store_has_each_corpus_with_its_tag(both: WarmCommandLine) -> None:
    data = DataFolder(both.folder / "run" / "data")
    tokenizer, sources = data.tokenizers().source, data.store("train").source
    tags = [tokenizer.pieces(sources.row(row)[:1])[0] for row in range(len(sources.offsets) - 1)]
    sizes = data.corpus_sizes()
    assert tags == ["<2en>"] * sizes[0] + ["<2de>"] * sizes[1]
    assert RunFolder(both.folder / "run").tokenizers().digest() == data.tokenizers().digest()


def test_subword_sampling_keeps_the_tags_and_a_run_resumes(
    both: WarmCommandLine, tmp_path: Path, warm: WarmCommandLine
) -> None:
    shutil.copytree(both.folder, tmp_path, dirs_exist_ok=True)
    settings = ("--set", "run_dir=other", "--set", "data_dir=run/data", "--set",
                "training.subword_sampling=0.2", "--set", "training.max_updates=20", "--set",
                "training.valid_every=10", "--set", "training.precision=fp32")  # fmt: skip
    succeed(warm, "train", "config.yaml", *settings)
    last = tmp_path / "other" / "checkpoints" / "update-00000020"
    wanted = digests(last)
    shutil.rmtree(last)
    assert "resuming from" in succeed(warm, "train", "config.yaml", *settings).err
    assert digests(last) == wanted


def test_a_held_out_direction_without_a_line_is_named(warm: WarmCommandLine) -> None:
    write_corpora(warm.folder)
    (warm.folder / "empty.txt").touch()
    no_german = TAGGED.replace("source: valid.digits, target: valid.de",
                               "source: empty.txt, target: empty.txt")  # fmt: skip
    (warm.folder / "config.yaml").write_text(no_german)
    refused = warm("prepare", "config.yaml")
    assert refused.code == 2
    assert "valid: there is not one pair in empty.txt" in refused.err


def test_two_languages_need_two_prefixes(both: WarmCommandLine, warm: WarmCommandLine) -> None:
    """A given vocabulary has <2de>, which de-AT would share."""
    write_corpora(warm.folder)
    given = both.folder / "run" / "tokenizer" / "shared.model"
    text = TAGGED.replace("target_lang: en", "target_lang: de-DE").replace(
        "tokenizer: {", f"tokenizer: {{path: {given}, ")  # fmt: skip
    (warm.folder / "config.yaml").write_text(text)
    refused = warm("prepare", "config.yaml")
    assert refused.code == 2
    assert "de-DE and de have the same prefix in this vocabulary" in refused.err
    assert not (warm.folder / "run" / "data").exists()


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('source_prefix: "<2{target_lang}>"', "shared: true",
         "data.train has several target languages, de, en, and nothing tells the model which"),
        ("source_lang: qaa", "source_lang: qaa\n  target_lang: de",
         "target_lang: de is not the only one, data.train has de, en: leave it out"),
        ("<2{target_lang}>", "<2{targetlang}>", "{targetlang} is unknown; known: {source_lang}"),
        ("<2{target_lang}>", "to {target_lang}", "tokenizer.source_prefix"),
        ("target_lang: de", "target_lang: d", "'d' is not a known"),
        ("target_lang: de", "target_lang: ed", "'ed' is not a"),
    ],
)  # fmt: skip
def test_languages_that_cannot_be_are_refused(
    old: str, new: str, error: str, warm: WarmCommandLine
) -> None:
    write_corpora(warm.folder)
    assert old in TAGGED
    (warm.folder / "config.yaml").write_text(TAGGED.replace(old, new))
    refused = warm("prepare", "config.yaml")
    assert refused.code == 2, refused.err
    assert error in refused.err
    assert not (warm.folder / "run").exists()


def test_a_student_is_compared_with_its_teacher_in_each_direction(
    both: WarmCommandLine, tmp_path: Path, warm: WarmCommandLine
) -> None:
    """Without test sets on valid, which has lines in both languages."""
    shutil.copytree(both.folder, tmp_path, dirs_exist_ok=True)
    untested = re.sub(r"  test: .*\n", "", TAGGED)
    (tmp_path / "student.yaml").write_text(untested.replace("run_dir: run", "run_dir: student"))
    short = ("--set", "training.max_updates=2", "--set", "training.valid_every=2")
    succeed(warm, "distill", "run", "student.yaml", *short)
    rows = json.loads((tmp_path / "student/distillation.json").read_text())["rows"]
    teacher = {row["test"]: row["scores"]["BLEU"] for row in rows if row["system"] == "teacher"}
    assert teacher.keys() == {"valid qaa-en", "valid qaa-de"}
    assert min(teacher.values()) > 60
    assert sum(row["system"] == "student int8" for row in rows) == 2


def test_what_a_run_translates_into_its_reverse_translates_from(both: WarmCommandLine) -> None:
    chosen = ("--set", "decoding.target_lang=de")
    refused = both("align", "run", "test.digits", "test.de", "--reverse", "run", *chosen)
    assert refused.code == 2
    assert "decoding.source_lang: de: this model translates from qaa" in refused.err
