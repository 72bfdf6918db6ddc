"""What the documents say: configurations load, commands parse, paths lead somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from mtrain.cli import app
from mtrain.config import load_config
from mtrain.config.suite import load_suite
from tests.unit.conftest import PRESETS, SUITES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mtrain"
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
VERBS = typer.main.get_group(app).commands
OPERATORS = {"|", ";", "&", "&&", "||", ">", ">>", "<"}


def in_repository(*patterns: str) -> list[str]:
    """Return the paths that match, from the root on."""
    found = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return [path.relative_to(ROOT).as_posix() for path in found]


DOCUMENTS = in_repository("*.md", "configs/**/*.md", "scripts/**/*.md", "mtrain/**/*.md")


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(text: str, *kinds: str) -> list[str]:
    """Return the fenced blocks whose fence names one of `kinds`."""
    fenced = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [block for kind, block in fenced if kind in kinds]


def commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each command in lines of shell, without redirections and comments."""
    for line in script.replace("\\\n", " ").split("\n"):
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in OPERATORS:
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def our_arguments(words: list[str]) -> list[str] | None:
    """Return what a command gives to mtrain, or None where it runs something else."""
    if words[0].split("/")[-1] == "mtrain":
        return words[1:]
    for place in range(len(words) - 1):
        if words[place : place + 2] == ["-m", "mtrain"]:
            return words[place + 2 :]
    return None


def shell_of(document: str) -> str:
    return "\n".join(blocks(read(document), "sh", "console"))


def make_targets() -> set[str]:
    return set(re.findall(r"^([\w./-]+):(?!=)", MAKEFILE, re.MULTILINE))


def check_parses(arguments: list[str], config: Path) -> None:
    """Let the command line read arguments without acting on them, and a config their --set."""
    if arguments[0] in ("--help", "--version"):
        return
    verb, *rest = arguments
    assert verb in VERBS, f"mtrain has no verb {verb}"
    context = VERBS[verb].make_context(verb, rest)
    load_config(config, context.params.get("overrides") or ())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The configuration that the README has its reader write."""
    written, *_ = blocks(read("README.md"), "yaml")  # others start from what this makes
    path = tmp_path / "my.yaml"
    path.write_text(written, "utf-8")
    load_config(path)
    return path


@pytest.mark.usefixtures("beside_base_runs")
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_every_configuration_loads(path: Path) -> None:
    load_config(path)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.name)
def test_every_suite_loads_and_is_named_after_its_languages(path: Path) -> None:
    suite = load_suite(path)
    assert path.stem == f"suite-{'-'.join(suite.languages)}"
    sources = [case.expected.source for case in suite.cases]
    assert len(set(sources)) == len(sources) >= 40


@pytest.mark.parametrize("path", [*PRESETS, *SUITES], ids=lambda path: path.name)
def test_every_configuration_is_explained(path: Path) -> None:
    assert f"`{path.name}`" in read("configs/README.md")


@pytest.mark.parametrize("name", in_repository("scripts/*.py"))
def test_every_script_is_explained(name: str) -> None:
    assert f"`{Path(name).name}`" in read("scripts/README.md")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_of_a_document_parse(document: str, config: Path) -> None:
    for words in commands(shell_of(document)):
        arguments = our_arguments(words)
        if arguments is not None:
            check_parses(arguments, config)
        elif words[0] == "make":
            assert set(words[1:]) <= make_targets(), words
        elif words[0].startswith("python") and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), words


def test_the_readme_opens_with_the_two_commands() -> None:
    first = [words for words in commands(shell_of("README.md")) if words[0] == "make"]
    assert first[:2] == [["make", "demo"], ["make", "test"]]


def test_what_the_makefile_runs_and_suggests_parses(config: Path) -> None:
    """Both `$(BIN)/mtrain ...` and what it tells the reader to type next."""
    text = re.sub(r"\$\((\w+)\)", r"\1", MAKEFILE.replace("\\\n", " "))
    lines = re.findall(r'(?:BIN/|"  |\| )(mtrain [^"\n]*)', text)
    assert len(lines) >= 5
    for line in lines:
        for words in commands(line):
            check_parses(words[1:], config)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_paths_in_a_document_lead_somewhere(document: str) -> None:
    text = read(document)
    ours = r"(?<![\w/.-])(?:mtrain|configs|scripts|tests|\.ci)/[\w./-]*\.\w+"
    named = [ROOT / path for path in re.findall(ours, text)]
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text)
    named += [(ROOT / document).parent / link for link in links]
    assert [str(path) for path in named if not path.exists()] == []


def test_the_readmes_tree_is_the_package() -> None:
    (tree,) = [block for block in blocks(read("README.md"), "") if block.startswith("mtrain/\n")]
    inside = [line for line in tree.split("\n") if line.startswith("  ")]
    named = {name for line in inside for name in re.findall(r"(?:^|; ) *([\w]+(?:/|\.py))  ", line)}
    rooms = {path.parent.name + "/" for path in PACKAGE.glob("*/__init__.py")}
    assert named == rooms | {path.name for path in PACKAGE.glob("[!_]*.py")}
