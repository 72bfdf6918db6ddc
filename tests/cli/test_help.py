"""Help by groups, an example a verb that parses, and completion in a shell."""

import os
import shlex
import subprocess
import sys

import pytest
import typer

from mtrain.cli import app
from mtrain.cli.verbs import VERBS, name_of
from tests.conftest import CommandLine, succeed

GROUP = typer.main.get_group(app)
EXAMPLES = {name_of(verb): line for verbs in VERBS.values() for verb, line in verbs.items()}


def complete(*words: str) -> list[str]:
    """Return what bash is offered for the last word."""
    environment = {"_MTRAIN_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words),
                   "COMP_CWORD": str(len(words) - 1)}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "mtrain"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_help_lists_every_verb_in_its_group(mtrain: CommandLine) -> None:
    said = succeed(mtrain, "--help").out
    places = [said.index(f"\n{group}:\n") for group in VERBS]
    places += [said.index(f"\n  {verb} ") for verb in EXAMPLES]
    assert sorted(places[: len(VERBS)]) == places[: len(VERBS)]
    assert sorted(places[len(VERBS) :]) == places[len(VERBS) :]
    assert set(EXAMPLES) == set(GROUP.commands)


@pytest.mark.parametrize("verb", EXAMPLES)
def test_the_help_of_a_verb_ends_with_an_example_that_parses(verb: str) -> None:
    context = GROUP.make_context("mtrain", [verb])
    name, command, _ = GROUP.resolve_command(context, [verb])
    assert name == verb
    assert command.get_help(context).splitlines()[-1] == f"  Example: {EXAMPLES[verb]}"
    program, named, *arguments = shlex.split(EXAMPLES[verb])
    assert (program, named) == ("mtrain", verb)
    command.make_context(verb, arguments, parent=context)


def test_a_shell_completes_verbs_and_options_also_of_half_a_line() -> None:
    assert complete("mtrain", "tra") == ["train", "translate"]
    assert complete("mtrain", "translate", "run", "--al") == ["--alignments"]
    assert complete("mtrain", "score", "--json", "--hypotheses", "a", "--hypotheses", "b",
                    "--gold-f") == ["--gold-first-index"]  # fmt: skip
