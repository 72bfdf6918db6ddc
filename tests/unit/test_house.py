"""The rules of the house: who may import whom, seams, sizes, docstrings, what may be caught."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mtrain"
SCRIPTS = ROOT / "scripts"
MAX_LINES, MAX_FUNCTION_LINES = 350, 60

# Rooms, lowest first: one imports from itself and from lower levels, never from beside or above.
LEVELS = (
    {"__init__"},  # the version
    {"errors", "console"},
    {"remote"},
    {"config"},
    {"runtime"},
    {"text", "nn"},
    {"data"},
    {"models"},
    {"decoding", "evaluation"},
    {"checkpoints", "distributed"},
    {"exchange"},
    {"inference"},
    {"training"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
TORCH_FREE_ROOMS = {"__init__", "errors", "console", "remote", "config", "text", "cli", "__main__"}
TORCH_FREE_MODULES = r"mtrain(\.(cli.*|errors|console|remote|config.*|text.*|evaluation.*))?"
TORCH_FREE_MODULES += r"|mtrain\.data\.(builder|folders)|mtrain\.runtime\.environment"
TORCH_FREE_MODULES += r"|mtrain\.commands\.(config|doctor.*|merge_data|opening|options|prepar.*)"
TORCH_FREE_MODULES += r"|mtrain\.commands\.score"
# The one file or folder that would change if another library did the work.
SEAMS = {
    "typer": "cli/",
    "sentencepiece": "text/tokenizer",
    "tokenizers": "text/tokenizer_huggingface.py",
    "datasets": "text/hub.py",
    "fsspec": "remote.py",
    "langcodes": "text/languages.py",
    "py3langid": "text/identification.py",
    "sacrebleu": "evaluation/metrics.py",
    "torch.distributed": "distributed/",
    "ctranslate2": "exchange/ctranslate2/",
    "ray": "distributed/cluster.py",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


def parse(folder: Path) -> dict[str, ast.Module]:
    """Return the syntax tree of every Python file in a folder, by its path from there."""
    paths = sorted(folder.rglob("*.py"))
    assert paths, f"there is no Python file in {folder}"
    return {path.relative_to(folder).as_posix(): ast.parse(path.read_bytes()) for path in paths}


MODULES = parse(PACKAGE)
FILES = {f"{folder.name}/{name}": tree for folder in (PACKAGE, SCRIPTS)
         for name, tree in parse(folder).items()}  # fmt: skip


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted name of everything imported, wherever it is done.

    Names of our own modules in strings count, for `import_module`, and so does `torch.distributed`
    used as an attribute.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.distributed":
            yield "torch.distributed"
        elif isinstance(node, ast.Constant) and re.fullmatch(r"mtrain(\.\w+)+", str(node.value)):
            yield str(node.value)


def level(room: str) -> int:
    """Return how high a room stands."""
    found = [number for number, rooms in enumerate(LEVELS) if room in rooms]
    assert found, f"{room} stands on no level: give it one in LEVELS"
    return found[0]


def room_of_file(name: str) -> str:
    return name.split("/")[0].removesuffix(".py")


def room_of_import(name: str) -> str:
    """Return the room of `mtrain.room.module.thing`; what is no room comes from the package."""
    room = name.split(".")[1]
    return room if any(room in rooms for rooms in LEVELS) else "__init__"


def test_lower_rooms_never_import_higher_ones_nor_their_neighbours() -> None:
    wrong = [
        f"mtrain/{name} imports {imports}"
        for name, tree in MODULES.items()
        for imports in imported(tree)
        if imports.startswith("mtrain.")
        and not (name == "__init__.py" and imports.startswith("mtrain.inference."))  # the API
        and room_of_import(imports) != room_of_file(name)
        and level(room_of_import(imports)) >= level(room_of_file(name))
    ]
    assert not wrong


def test_every_room_stands_on_a_level_and_every_level_is_lived_in() -> None:
    assert {room_of_file(name) for name in MODULES} == set().union(*LEVELS)


def test_rooms_that_answer_at_once_never_name_torch() -> None:
    wrong = [
        f"mtrain/{name} imports {imports}"
        for name, tree in MODULES.items()
        for imports in imported(tree)
        if room_of_file(name) in TORCH_FREE_ROOMS and imports.split(".")[0] == "torch"
    ]
    assert not wrong


def test_importing_what_needs_no_torch_leaves_it_alone() -> None:
    names = ["mtrain." + name.removesuffix(".py").replace("/", ".") for name in MODULES]
    modules = sorted(name.removesuffix(".__init__") for name in names)
    chosen = [name for name in modules if re.fullmatch(TORCH_FREE_MODULES, name)]
    assert {"mtrain.cli", "mtrain.text.corpora", "mtrain.data.builder"} <= set(chosen)
    program = (
        "import sys, importlib\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, f'importing {name} imports torch'"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *chosen],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_help_and_completion_answer_at_once() -> None:
    program = (
        "import sys, mtrain.cli\n"
        "slow = {'torch', 'numpy', 'pydantic', 'yaml', 'tqdm', 'sentencepiece', 'datasets'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize(("library", "seam"), SEAMS.items(), ids=SEAMS)
def test_a_library_to_be_replaced_is_imported_in_one_file(library: str, seam: str) -> None:
    users = [
        name
        for name, tree in MODULES.items()
        if any(f"{imports}.".startswith(f"{library}.") for imports in imported(tree))
    ]
    assert users
    assert all(name.startswith(seam) for name in users), users


def test_the_environment_is_read_and_set_in_one_room() -> None:
    users = {
        name
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and ast.unparse(node) in ("os.environ", "environ", "os.getenv", "os.putenv")
    }
    assert users == {"config/section.py", *filter(re.compile("runtime/").match, users)}  # of paths


def test_every_file_opens_with_what_it_is_responsible_for() -> None:
    assert [name for name, tree in FILES.items() if not ast.get_docstring(tree)] == []


def test_files_and_functions_fit_on_a_few_screens() -> None:
    lines = {name: len((ROOT / name).read_text("utf-8").split("\n")) - 1 for name in FILES}
    too_long = [f"{name}: {count} lines" for name, count in lines.items() if count > MAX_LINES]
    for name, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, Function) and num_lines(node) > MAX_FUNCTION_LINES:
                too_long.append(f"{name}:{node.lineno} {node.name}: {num_lines(node)} lines")
    assert not too_long


def num_lines(node: Function) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def test_what_is_public_says_what_it_does() -> None:
    contracts = contracts_of_the_package()
    silent = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in FILES.items()
        for node, owner in public(tree)
        if not ast.get_docstring(node) and not (owner and node.name in inherited(owner, contracts))
    ]
    assert not silent


def public(tree: ast.Module | ast.ClassDef) -> Iterator[tuple[Definition, ast.ClassDef | None]]:
    """Yield the public classes, functions and methods of a module, each with its class."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node, tree if isinstance(tree, ast.ClassDef) else None
            if isinstance(node, ast.ClassDef):
                yield from public(node)


def contracts_of_the_package() -> dict[str, set[str]]:
    """Return the methods that each abstract class, and each class built on one, describes."""
    classes = {node.name: node for tree in MODULES.values() for node in ast.walk(tree)
               if isinstance(node, ast.ClassDef)}  # fmt: skip

    def described(name: str) -> set[str] | None:
        if name not in classes:
            return set() if name == "ABC" else None
        above = [described(ast.unparse(base)) for base in classes[name].bases]
        if all(methods is None for methods in above):
            return None
        own = {method.name for method in classes[name].body
               if isinstance(method, Function) and ast.get_docstring(method)}  # fmt: skip
        return own.union(*filter(None, above))

    found = {name: described(name) for name in classes}
    return {name: methods for name, methods in found.items() if methods is not None}


def inherited(owner: ast.ClassDef, contracts: dict[str, set[str]]) -> set[str]:
    """Return the methods that a contract among the bases of a class has described already."""
    return set().union(*(contracts.get(ast.unparse(base), set()) for base in owner.bases))


def test_nothing_catches_every_error_and_goes_on() -> None:
    """BaseException may be caught to clean up and raise it again, or to raise it elsewhere."""
    wrong = []
    for name, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = set(re.findall(r"\w+", ast.unparse(node.type))) if node.type else set()
                ends_in_raise = ast.unparse(node.body[-1]) == "raise"
                handed_over = "BaseException" in caught and node.name is not None
                is_broad = not caught or "BaseException" in caught
                if "Exception" in caught or (is_broad and not (ends_in_raise or handed_over)):
                    wrong.append(f"{name}:{node.lineno}")
    assert not wrong


def test_no_test_is_named_after_bytes(request: pytest.FixtureRequest) -> None:
    """Compressed bytes contain the time: test processes would collect tests of different names."""
    assert not [item.name for item in request.session.items if "\\x1f\\x8b" in item.name]
