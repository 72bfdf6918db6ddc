"""`--engine ctranslate2`: exported at first use, kept in the checkpoint, checked."""

import json
import shutil
from pathlib import Path

from tests.cli.conftest import contents
from tests.cli.hostile import BoundCommandLine
from tests.cli.warm import WarmCommandLine
from tests.conftest import every_line, succeed

EXPORT = Path("run/checkpoints/update-00000600/ctranslate2")
WITH_ENGINE = ("--engine", "ctranslate2")


def test_the_first_use_exports_and_the_next_ones_find_it(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    greedy = ("translate", "run", "test.digits", "--beam-size", "1")  # beams end by other rules
    ours = succeed(warm, *greedy)
    before = contents(trained_copy / "run")
    theirs = succeed(warm, *greedy, *WITH_ENGINE)
    assert theirs.out == ours.out
    assert "searching with CTranslate2" in theirs.err
    exported = contents(trained_copy / EXPORT)
    assert {
        "model.bin", "config.json", "shared_vocabulary.json", "source.spm", "target.spm",
        "digests.json",
    } == set(exported)  # fmt: skip
    times = {path: path.stat().st_mtime_ns for path in (trained_copy / EXPORT).iterdir()}
    eight_bits = succeed(
        warm, *greedy, "--engine", "ctranslate2-int8", "--alignments", "links"
    )  # fmt: skip
    same = map(str.__eq__, every_line(eight_bits.out), every_line(ours.out))
    assert sum(same) > 0.9 * len(every_line(ours.out))
    assert len(every_line((trained_copy / "links").read_text())) == len(every_line(ours.out))
    assert times == {path: path.stat().st_mtime_ns for path in (trained_copy / EXPORT).iterdir()}
    shutil.rmtree(trained_copy / EXPORT)
    assert contents(trained_copy / "run") == before


def test_any_line_comes_back_as_one_line(warm: WarmCommandLine, trained_copy: Path) -> None:
    lines = [b"", b"1 2 3", b"\xff\xfe", b" ", b"4 5 " * 60, "\u2028 \u20ac".encode(), b"7\r"]
    stdin = b"\n".join(lines) + b"\n"
    finished = succeed(warm, "translate", "run", *WITH_ENGINE, "--n-best", "2", stdin=stdin)
    assert [line.split(" ||| ")[0] for line in every_line(finished.out)] == [
        str(number) for number in range(1, len(lines) + 1) for _ in range(2)
    ]
    ours = succeed(warm, "translate", "run", "--n-best", "2", stdin=stdin)
    assert every_line(finished.err)[-1] == every_line(ours.err)[-1]  # the account of all lines


def test_a_damaged_export_is_written_anew(warm: WarmCommandLine, trained_copy: Path) -> None:
    ours = succeed(warm, "translate", "run", *WITH_ENGINE, stdin=b"3 1 2\n")
    whole = (trained_copy / EXPORT / "model.bin").read_bytes()
    for damaged in (whole[:-1000], whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], b""):
        (trained_copy / EXPORT / "model.bin").write_bytes(damaged)
        again = succeed(warm, "translate", "run", *WITH_ENGINE, stdin=b"3 1 2\n")
        assert again.out == ours.out
        assert f"{EXPORT} is damaged: writing it again" in again.err
        assert (trained_copy / EXPORT / "model.bin").read_bytes() == whole


def test_scores_are_of_the_engine_that_is_asked_for_and_training_validates_with_its_own(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    engine = ("--set", "decoding.engine=ctranslate2")
    (scored,) = json.loads(succeed(warm, "score", "run", "--json", *engine).out)["sets"]
    assert scored["scores"][0]["value"] > 90
    assert (trained_copy / EXPORT).is_dir()
    shutil.rmtree(trained_copy / EXPORT)
    more = ("--set", "training.max_updates=603")
    assert "CTranslate2" not in succeed(warm, "train", "config.yaml", *engine, *more).err


def test_a_run_that_cannot_be_written_says_so(bound: BoundCommandLine, trained_copy: Path) -> None:
    checkpoint = (trained_copy / EXPORT).parent
    checkpoint.chmod(0o555)
    refused = bound("translate", "run", *WITH_ENGINE, stdin=b"1 2\n")
    checkpoint.chmod(0o755)
    assert (refused.code, refused.out) == (2, "")
    assert f"{EXPORT}: no permission" in refused.err
    assert "copy the run" in refused.err


def test_an_engine_that_is_none_is_refused(trained: WarmCommandLine) -> None:
    refused = trained("translate", "run", "--engine", "ctranslate3", stdin=b"1\n")
    assert refused.code == 2
    assert "decoding.engine" in refused.err
    assert "ctranslate2" in refused.err
