"""As many lines out as in, in their order, whatever bytes they hold."""

import bz2
import gzip
import os
import random
import re
import select
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.cli.warm import WarmCommandLine
from tests.conftest import CommandLine, every_line, succeed
from tests.traps import LONG, TRAPS, Trap

NEIGHBOURS = (b"3 1 2", b"7 0 4 4")
ALONE = ["two one three", "four four zero seven"]  # their translations
SHORT_TRAPS = {name: trap for name, trap in TRAPS.items() if len(trap.raw) < LONG // 2}
MORE_TRAPS = {
    "digits, many kinds of white space": Trap("3\v1\u2028\x002".encode(), "3 1 2"),
    "only a byte-order mark": Trap("\ufeff".encode(), ""),
    "only line separators": Trap("\u2028\u2029\x85".encode(), ""),
    "only a zero-width space": Trap("\u200b".encode(), ""),
    "bars of an n-best list": Trap(b"3 ||| 1", "3 ||| 1"),
    "gz by its first bytes": Trap(b"3 \x1f\x8b", "3 \x1f\ufffd", is_valid=False),
}
# an output of ten tokens for each segment, so that a million characters take seconds
SKETCHY = ("--beam-size", 1, "--set", "decoding.max_length_ratio=0.001")
TALLY = re.compile(
    r"(?P<lines>\d+) lines: (?P<ordinary>\d+) ordinary, (?P<empty>\d+) empty, (?P<split>\d+) split,"
    r" (?P<cut_off>\d+) cut off at the length limit, (?P<invalid>\d+) with invalid UTF-8 replaced"
)


def tally(said: str) -> dict[str, int]:
    """Return the counts in the one line that accounts for all lines."""
    (found,) = TALLY.finditer(said)
    return {name: int(count) for name, count in found.groupdict().items()}


def as_file(*lines: bytes) -> bytes:
    """Return lines as the content of a file."""
    return b"".join(line + b"\n" for line in lines)


def translate(command: WarmCommandLine, content: bytes, *options: object) -> list[str]:
    """Return the lines that come out for what goes in through stdin."""
    finished = succeed(command, "translate", "run", *options, stdin=content)
    assert finished.out.endswith("\n") or not content
    return list(every_line(finished.out))


def test_what_is_trained_here_translates_its_own_task(trained: WarmCommandLine) -> None:
    """What follows would be true of a model that always says the same."""
    assert translate(trained, as_file(*NEIGHBOURS)) == ALONE


def test_all_traps_in_one_file_come_out_in_any_order_as_their_clean_twins_do(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    traps = [*SHORT_TRAPS.values(), *MORE_TRAPS.values()]
    digits = [line.encode() for line in every_line((trained.folder / "test.digits").read_text())]
    raw = [trap.raw for trap in traps] + digits
    wanted = translate(trained, as_file(*[trap.clean.encode() for trap in traps], *digits))
    assert wanted[-len(digits) :] == translate(trained, as_file(*digits))
    for line, trap in zip(wanted, traps, strict=False):
        assert len(line.splitlines()) <= 1
        assert trap.clean or line == ""
    order = list(range(len(raw)))
    random.Random(1).shuffle(order)
    shuffled = as_file(*[raw[index] for index in order])
    finished = succeed(trained, "translate", "run", stdin=shuffled)
    assert every_line(finished.out) == [wanted[index] for index in order]
    counted = tally(finished.err)
    assert counted["lines"] == len(raw)
    assert counted["empty"] == sum(not trap.clean for trap in traps)
    assert counted["invalid"] == sum(not trap.is_valid for trap in traps)
    assert counted["split"] == 0
    assert counted["ordinary"] >= len(digits)
    (tmp_path / "in").write_bytes(shuffled)
    assert succeed(trained, "translate", "run", tmp_path / "in").out == finished.out


@pytest.mark.parametrize("option", ["decoding.batch_tokens=12", "decoding.buffer_lines=3"])
def test_the_size_of_batches_and_buffers_changes_nothing(
    option: str, trained: WarmCommandLine
) -> None:
    digits = (trained.folder / "test.digits").read_bytes()
    usual = translate(trained, digits)
    assert len(usual) == 60
    assert translate(trained, digits, "--set", option) == usual
    backwards = b"\n".join(reversed(digits.split(b"\n")[:-1])) + b"\n"
    assert translate(trained, backwards, "--set", option) == usual[::-1]


def test_a_line_of_a_million_characters_is_one_line(trained: WarmCommandLine) -> None:
    """Half of them words, the other half one word."""
    line = b"seven " * (LONG // 12) + b"seven" * (LONG // 10)
    content = as_file(NEIGHBOURS[0], line, NEIGHBOURS[1])
    large = ("--set", "decoding.batch_tokens=65536")
    finished = succeed(trained, "translate", "run", *SKETCHY, *large, stdin=content)
    before, translated, after = every_line(finished.out)
    assert [before, after] == translate(trained, as_file(*NEIGHBOURS), *SKETCHY)
    assert len(translated) > 1000
    counted = tally(finished.err)
    assert (counted["lines"], counted["empty"], counted["split"]) == (3, 0, 1)


def test_a_million_spaces_do_not_make_a_line_long(trained: WarmCommandLine) -> None:
    content = as_file(b"3" + b" " * LONG + b"1", b" " * LONG, b"2")
    finished = succeed(trained, "translate", "run", stdin=content)
    assert every_line(finished.out) == translate(trained, as_file(b"3 1", b"", b"2"))
    counted = tally(finished.err)
    assert (counted["ordinary"], counted["empty"], counted["split"]) == (2, 1, 0)


def test_a_line_over_the_models_limit_is_split_and_joined(trained: WarmCommandLine) -> None:
    """max_positions is 64, the end mark is one, and a digit is one token."""
    digits = [str(random.Random(1).randrange(10)) for _ in range(150)]
    parts = [digits[:63], digits[63:126], digits[126:]]
    content = as_file(NEIGHBOURS[0], " ".join(digits).encode(), NEIGHBOURS[1])
    finished = succeed(trained, "translate", "run", stdin=content)
    before, line, after = every_line(finished.out)
    assert [before, after] == translate(trained, as_file(*NEIGHBOURS))
    pieces = translate(trained, as_file(*[" ".join(part).encode() for part in parts]))
    assert line == " ".join(pieces)
    assert "warning: 1 lines were longer than the model reads at once" in finished.err
    counted = tally(finished.err)
    assert (counted["lines"], counted["split"], counted["empty"]) == (3, 1, 0)
    fits = succeed(trained, "translate", "run", stdin=" ".join(parts[0]).encode())
    assert "warning" not in fits.err
    assert tally(fits.err)["split"] == 0


def test_what_reaches_the_length_limit_is_counted(trained: WarmCommandLine) -> None:
    finished = succeed(trained, "translate", "run", *SKETCHY, stdin=b"1 2 3 4 5 6 7 8 9\n")
    counted = tally(finished.err)
    assert (counted["lines"], counted["ordinary"], counted["cut_off"]) == (1, 0, 1)


@pytest.mark.parametrize("border", [1 << 13, 1 << 16], ids=["8k", "64k"])
@pytest.mark.parametrize("across", ["é".encode(), b"\xe2\x82", b"\r", b"\n"],
                         ids=["valid", "invalid", "CR", "LF"])  # fmt: skip
def test_a_character_across_the_border_of_a_buffer_stays_whole(
    across: bytes, border: int, trained: WarmCommandLine, tmp_path: Path
) -> None:
    line = b"3" + across + b"1"
    filler = b"7 0 4" + b" " * (border - 8) + b"\n"  # the first byte of `across` is the last below
    content = filler + line + b"\n" + as_file(*NEIGHBOURS)
    assert content.index(across, len(filler)) == border - 1
    wanted = translate(trained, as_file(b"7 0 4", line, *NEIGHBOURS))
    assert translate(trained, content) == wanted
    (tmp_path / "in").write_bytes(content)
    assert every_line(succeed(trained, "translate", "run", tmp_path / "in").out) == wanted


def test_the_last_line_needs_no_newline(trained: WarmCommandLine) -> None:
    with_newline = as_file(*NEIGHBOURS)
    assert translate(trained, with_newline[:-1]) == translate(trained, with_newline)
    assert translate(trained, with_newline + b"\n")[2:] == [""]


@pytest.mark.parametrize("through", ["stdin", "file", "/dev/null"])
def test_no_lines_in_is_no_lines_out(
    through: str, trained: WarmCommandLine, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    path = {"stdin": [], "file": [tmp_path / "file"], "/dev/null": [os.devnull]}[through]
    finished = succeed(trained, "translate", "run", *path)
    assert finished.out == ""
    assert set(tally(finished.err).values()) == {0}


def test_empty_lines_stay_empty(trained: WarmCommandLine) -> None:
    finished = succeed(trained, "translate", "run", stdin=b"\n   \n3 1\n\t\n\r\n\n")
    assert every_line(finished.out) == ["", "", *translate(trained, b"3 1\n"), "", "", ""]
    assert tally(finished.err) == {
        **{"lines": 6, "ordinary": 1, "empty": 5, "split": 0, "cut_off": 0, "invalid": 0}
    }
    nothing = succeed(trained, "translate", "run", "--n-best", 2, stdin=b"\n\n")
    assert re.fullmatch(r"(1 \|\|\| .*\n){2}(2 \|\|\| .*\n){2}", nothing.out)


def test_windows_line_ends_change_nothing(trained: WarmCommandLine) -> None:
    digits = (trained.folder / "test.digits").read_bytes()
    assert translate(trained, digits.replace(b"\n", b"\r\n")) == translate(trained, digits)


ENCODED: dict[str, Callable[[bytes], bytes]] = {
    "UTF-16 with a mark": lambda plain: plain.decode().encode("utf-16"),
    "UTF-16 by its zeros": lambda plain: plain.decode().encode("utf-16-be"),
    "UTF-32": lambda plain: plain.decode().encode("utf-32"),
    "UTF-8 with a mark": lambda plain: plain.decode().encode("utf-8-sig"),
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "gzip of UTF-16": lambda plain: gzip.compress(plain.decode().encode("utf-16")),
}


def test_an_encoding_or_compression_is_told_by_its_first_bytes(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    digits = (trained.folder / "test.digits").read_bytes()
    wanted = succeed(trained, "translate", "run", stdin=digits)
    for encode in ENCODED.values():
        (tmp_path / "in").write_bytes(encode(digits))
        for finished in (
            succeed(trained, "translate", "run", stdin=encode(digits)),
            succeed(trained, "translate", "run", tmp_path / "in"),
        ):
            assert finished.out == wanted.out
            assert tally(finished.err) == tally(wanted.err)


@pytest.mark.parametrize("verb", ["translate", "attention", "align", "score"])
def test_what_is_no_text_is_refused_by_every_verb(
    verb: str, trained: WarmCommandLine, tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"PK\x03\x04\x14\x00\x00")
    arguments = {
        "translate": ("run", bad),
        "attention": ("run", bad, "--output", tmp_path / "out", "--no-pictures"),
        "align": ("run", "test.digits", bad),
        "score": ("--hypotheses", bad, "--references", "test.words"),
    }[verb]
    finished = trained(verb, *arguments)
    assert (finished.code, finished.out) == (2, "")
    assert f"error: {bad}: this is a zip archive" in finished.err
    if verb in ("translate", "attention"):
        through_stdin = trained(verb, "run", *arguments[2:], stdin=bad.read_bytes())
        assert "error: stdin: this is a zip archive" in through_stdin.err


def test_align_and_attention_tell_of_what_they_could_not_decode(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    lines = as_file(b"3 1 2", b"\xff 3", b"7")
    (tmp_path / "in").write_bytes(lines)
    aligned = succeed(trained, "align", "run", tmp_path / "in", tmp_path / "in")
    shown = succeed(trained, "attention", "run", tmp_path / "in", "--output", tmp_path / "out",
                    "--no-pictures")  # fmt: skip
    for finished in (aligned, shown):
        assert f"warning: {tmp_path / 'in'}: 1 lines are not valid UTF-8" in finished.err


def test_n_best_lists_are_numbered_scored_and_sorted(trained: WarmCommandLine) -> None:
    digits = (trained.folder / "test.digits").read_bytes()
    best = translate(trained, digits)
    lines = translate(trained, digits, "--n-best", 3)
    assert len(lines) == 3 * len(best)
    for number, text in enumerate(best, start=1):
        entries = [line.split(" ||| ") for line in lines[3 * number - 3 : 3 * number]]
        assert [entry[0] for entry in entries] == [str(number)] * 3
        assert entries[0][1] == text
        scores = [float(entry[2]) for entry in entries]
        assert scores == sorted(scores, reverse=True)
        assert all(score < 0 for score in scores)
    assert len({line.split(" ||| ")[1] for line in lines}) > 2 * len(best)


def test_one_beam_is_greedy_and_so_is_sampling_the_likeliest(trained: WarmCommandLine) -> None:
    digits = (trained.folder / "test.digits").read_bytes()
    greedy = translate(trained, digits, "--beam-size", 1)
    likeliest = ("--set", "decoding.method=sample", "--set", "decoding.top_k=1")
    assert translate(trained, digits, *likeliest) == greedy
    assert translate(trained, digits, "--set", "decoding.beam_size=1") == greedy


def test_sampling_depends_on_the_seed_alone(trained: WarmCommandLine, tmp_path: Path) -> None:
    """With a file so long that a reader who takes what is there does not take it at once."""
    lines = (trained.folder / "train.digits").read_bytes().split(b"\n")[:1000]
    (tmp_path / "in").write_bytes(as_file(*lines))

    def sample(seed: int) -> list[str]:
        wild = ("decoding.method=sample", "decoding.temperature=2", f"seed={seed}")
        options = (word for setting in wild for word in ("--set", setting))
        finished = succeed(trained, "translate", "run", tmp_path / "in", *options, *SKETCHY[2:])
        return list(every_line(finished.out))

    first, again, other = sample(1), sample(1), sample(2)
    assert len(first) == 1000
    assert again == first
    assert sum(a != b for a, b in zip(first, other, strict=True)) > 500


def test_stdin_is_answered_as_it_arrives(mtrain: CommandLine, trained: WarmCommandLine) -> None:
    """Each line is written only when the answer to the one before has been read."""
    process = mtrain.start("translate", trained.folder / "run")
    assert process.stdin is not None
    assert process.stdout is not None
    asked = [b"3 1 2\n", b"\n", b"7 0 4 4\n"]
    answers = []
    for line in asked:
        process.stdin.write(line)
        process.stdin.flush()
        if not select.select([process.stdout], [], [], 60)[0]:
            process.kill()
            pytest.fail(f"no answer to {line!r}")
        answers.append(process.stdout.readline().decode().rstrip("\n"))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    assert answers == translate(trained, b"".join(asked))
    assert tally(said.decode())["lines"] == 3


# -- where it goes ---------------------------------------------------------------------------------


def test_output_is_what_stdout_would_be(trained: WarmCommandLine, tmp_path: Path) -> None:
    out = tmp_path / "out"
    quiet = succeed(trained, "translate", "run", "test.digits", "--output", out)
    assert quiet.out == ""
    assert every_line(out.read_text()) == translate(
        trained, (trained.folder / "test.digits").read_bytes()
    )
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("older", [None, "older text\n"], ids=["absent", "older"])
def test_output_is_whole_or_as_it_was(
    number: signal.Signals, older: str | None, trained: WarmCommandLine, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if older:
        out.write_text(older)
    few_at_a_time = ("--set", "decoding.buffer_lines=10")
    running = trained.start("translate", "run", "train.digits", "--output", out, *few_at_a_time)
    running.wait_until(lambda: any(path.stat().st_size for path in tmp_path.glob(".out.*")))
    running.send(number)
    is_killed = number == signal.SIGKILL
    assert running.finish().code == (-number if is_killed else 128 + number)
    assert (out.read_text() if out.exists() else None) == older
    left = {path.name for path in tmp_path.iterdir()}
    to_resume = {".out.part", ".out.journal"}
    assert left - to_resume - ({".out.journal.new"} if is_killed else set()) == (
        {"out"} if older else set()
    )
    assert is_killed or to_resume <= left or not to_resume & left


def test_output_may_be_a_link_or_a_device(trained: WarmCommandLine, tmp_path: Path) -> None:
    target, link, dangling = tmp_path / "target", tmp_path / "link", tmp_path / "dangling"
    target.write_text("older text\n")
    link.symlink_to(target)
    dangling.symlink_to(tmp_path / "new")
    for path in (link, dangling, Path(os.devnull)):
        succeed(trained, "translate", "run", "--output", path, stdin=b"3 1 2\n")
    assert link.is_symlink()
    assert dangling.is_symlink()
    assert target.read_text() == (tmp_path / "new").read_text() == "two one three\n"
    assert not Path(os.devnull).is_file()


def test_a_pipe_is_as_good_as_a_file(
    mtrain: CommandLine, trained: WarmCommandLine, tmp_path: Path
) -> None:
    """As with `mtrain translate RUN <(zcat text.gz)`: it can be read only once."""
    digits = (trained.folder / "test.digits").read_bytes()
    run = trained.folder / "run"
    finished = succeed(mtrain, "translate", run, "/dev/stdin", stdin=digits)
    assert every_line(finished.out) == translate(trained, digits)
    references = (trained.folder / "test.words").read_bytes()
    arguments = ("--hypotheses", "/dev/stdin", "--references", trained.folder / "test.words")
    assert "BLEU   100.00" in succeed(mtrain, "score", *arguments, stdin=references).out


@pytest.mark.parametrize("way", ["Ctrl-C", "reader gone"])
def test_it_ends_though_stdin_stays_open(
    way: str, mtrain: CommandLine, trained: WarmCommandLine
) -> None:
    """As in a terminal, and with `tail -f log | mtrain translate RUN | head -1`."""
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # the shell may have told not to
    process = mtrain.start("translate", trained.folder / "run", preexec_fn=listen)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(b"3 1 2\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"two one three\n"
    if way == "Ctrl-C":
        process.send_signal(signal.SIGINT)
    else:
        process.stdout.close()
        process.stdin.write(b"3 1 2\n")
        process.stdin.flush()
    try:
        assert process.wait(timeout=60) == (130 if way == "Ctrl-C" else 2)
    finally:
        process.kill()
    said = process.stderr.read()
    assert b"Traceback" not in said
    assert b"Fatal" not in said


@pytest.mark.parametrize(("number", "said"), [(0, "stdin is closed"), (1, "stdout is closed")])
def test_a_closed_stream_is_an_error(
    number: int, said: str, mtrain: CommandLine, trained: WarmCommandLine
) -> None:
    process = mtrain.start(
        "translate", trained.folder / "run", preexec_fn=partial(os.close, number)
    )
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said in error.decode()
    assert b"Traceback" not in error


def test_with_stderr_closed_stdout_has_the_translations_alone(
    mtrain: CommandLine, trained: WarmCommandLine
) -> None:
    process = mtrain.start("translate", trained.folder / "run", preexec_fn=partial(os.close, 2))
    out, _ = process.communicate(b"3 1 2\n", timeout=60)
    assert (process.returncode, out) == (0, b"two one three\n")


def test_a_reader_that_leaves_early_ends_the_command_quietly(
    mtrain: CommandLine, trained: WarmCommandLine
) -> None:
    """As with `| head -1`; the code is not 1, which would be a no of --fail-under."""
    few_at_a_time = ("--set", "decoding.buffer_lines=10")
    run, text = trained.folder / "run", trained.folder / "train.digits"
    process = mtrain.start("translate", run, text, *few_at_a_time)
    assert process.stdout is not None
    assert process.stderr is not None
    first = process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait(timeout=60) == 2
    assert first.decode().rstrip("\n") == translate(trained, text.read_bytes()[:20])[0]
    assert "Traceback" not in said
    assert "Exception" not in said
