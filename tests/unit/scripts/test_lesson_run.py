"""The lesson's split of its corpus, and the configurations of its members."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mtrain.config import load_config

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[3] / "scripts" / "lesson"))
    import corpus
    import run


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Sources of 1 to 70 words, some with two translations, some pairs twice, some sides empty."""
    pairs = []
    for number in range(6000):
        words = " ".join(f"word{number}" for _ in range(1 + number % 70))
        pairs.append((words, f"wort {number}"))
        if number % 3 == 0:
            pairs += [(words, f"anderes wort {number}"), pairs[-1], (words, ""), ("", words)]
    paths = tmp_path / "a.en", tmp_path / "a.de"
    for side, path in enumerate(paths):
        path.write_text("".join(f"{pair[side]}\n" for pair in pairs))
    return paths


def test_no_source_is_in_two_sets_and_no_pair_is_lost_but_second_translations(
    files: tuple[Path, Path],
) -> None:
    sets = corpus.split([files])
    sources = [{source for source, _ in sets[name]} for name in corpus.SETS]
    assert sum(map(len, sources)) == len(set.union(*sources)) == 6000
    assert all(all(pair) for pairs in sets.values() for pair in pairs)
    for name in ("valid", "test"):
        assert len(sets[name]) == len({source for source, _ in sets[name]})
    assert len(sets["train"]) > 7000
    assert corpus.split([files]) == sets


def test_held_out_sets_have_sentences_of_every_length_up_to_their_quota(
    files: tuple[Path, Path],
) -> None:
    sets = corpus.split([files])
    for name, most in (("test", corpus.QUOTA), ("valid", corpus.QUOTA // 3)):
        lengths = (len(source.split()) for source, _ in sets[name])
        ranges = Counter(next(b for b in corpus.LENGTHS if words <= b) for words in lengths)
        assert set(ranges) == set(corpus.LENGTHS)
        assert max(ranges.values()) <= most


def test_joined_texts_stay_in_their_set_and_have_every_size(files: tuple[Path, Path]) -> None:
    sets = corpus.split([files])
    joined = corpus.join(sets, 3)
    for name, pairs in joined.items():
        known = dict(sets[name])
        for source, target in pairs:
            assert source in known or any(source.startswith(f"{one} ") for one in known), name
            assert target
    parts = Counter(len(set(source.split())) for source, _ in joined["train"])
    assert set(parts) == {1, 2, 3}
    assert parts[2] >= len(sets["train"]) // 2 - 1500  # a second translation repeats a source
    lengths = Counter(next(b for b in corpus.LENGTHS if len(source.split()) <= b)
                      for source, _ in joined["test"])  # fmt: skip
    assert max(lengths.values()) <= corpus.QUOTA


def test_near_copies_are_counted() -> None:
    sets = {"train": [("Turn it on.", "x")], "test": [("turn it ON", "x"), ("Other", "x")]}
    assert corpus.near_duplicates(sets).startswith("1 of 2 ")


@pytest.mark.parametrize("name", run.MEMBERS)
def test_every_members_configuration_loads(name: str, tmp_path: Path) -> None:
    member = run.MEMBERS[name]
    lesson = run.Lesson(tmp_path, minutes=0.5)
    path = lesson._write_config(name, lesson.run_dir(name), {"max_updates": 7})
    config = load_config(path)
    assert config.model.type == member.model["type"]
    assert config.data.source_lang == ("de" if member.is_reverse else "en")
    assert config.data.has_alignments == member.is_guided
    assert config.training.max_updates == 7


def test_results_are_kept_one_by_one_and_assembled_with_the_alignments(tmp_path: Path) -> None:
    lesson = run.Lesson(tmp_path, 25, "bf16", (Path("en"), Path("de"), Path("links.gold")))
    about = dict.fromkeys(("threads", "precision", "command", "date", "machine"), "x")
    for number, name in enumerate(run.MEMBERS):
        assert lesson.result(name) is None
        aligned = {"alignment": {"aer": number}} if run.MEMBERS[name].can_align else {}
        lesson._write_result(name, {**about, **aligned, "minutes": 25, "commit": f"c{number % 2}"})
    lesson._write_result(run.BOTH, {"alignment": {"aer": 9}})
    (tmp_path / "data.json").write_text('{"train_pairs": 7}')
    lesson.assemble()
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["members"] == {name: lesson.result(name) for name in run.MEMBERS}
    assert set(found["alignment"]) == set(run.MEMBERS) - {"rnn-none", run.REVERSE} | {run.BOTH}
    assert found["alignment"][run.BOTH] == {"aer": 9}
    assert (found["gold"], found["minutes"]) == ("links.gold", 25)
    assert (found["commit"], found["data"]) == ("c0, c1", {"train_pairs": 7})


@pytest.mark.parametrize("name", run.MEMBERS)
def test_every_member_has_a_measured_speed(name: str, tmp_path: Path) -> None:
    lesson = run.Lesson(tmp_path, minutes=0.5)
    measured = {one: {"tokens_per_second": len(one)} for one, member in run.MEMBERS.items()
                if member.has_own_speed}  # fmt: skip
    lesson.speeds_path.write_text(json.dumps(measured))
    own = run.MEMBERS[name].has_own_speed
    assert lesson.speed(name) == measured[name if own else run.FORWARD]
