"""The packages that `mtrain doctor` looks for: those that mtrain's own metadata names.

`packaging`, which reads requirements, may itself be missing: it is imported late.
"""

import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import mtrain
from mtrain.commands.doctor_row import BROKEN, NOTE, Row, pip

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# extra -> what it is for
PURPOSES = {
    "tensorboard": "training.tensorboard",
    "plot": "PNG heatmaps",
    "ctranslate2": "translate --engine, export --to ctranslate2",
    "huggingface": "import, checked exports, tokenizer.json",
    "langid": "the check of languages, init",
    "cluster": "translate --ray, prepare --ray",
}


def package_rows() -> tuple[list[Row], "Requirement | None"]:
    """Return the rows of mtrain, its dependencies and its extras, and what it requires of torch.

    torch is examined elsewhere: it must also be importable.
    """
    python = ".".join(map(str, sys.version_info[:3]))
    rows = [Row("mtrain", f"{mtrain.__version__}, Python {python}")]
    try:
        needed, extras = _requirements()
    except metadata.PackageNotFoundError:
        root = str(Path(mtrain.__file__).parents[1])
        found = f"not known: mtrain runs from {root} and is not installed"
        return [*rows, Row("dependencies", found, NOTE, pip("install", "-e", root))], None
    except ImportError as error:
        row = Row("dependencies", str(error), BROKEN, pip("install", "packaging"))
        return [*rows, row], None
    torch = next((each for each in needed if each.name == "torch"), None)
    rows.append(_dependencies([each for each in needed if each.name != "torch"]))
    rows += (_extra(name, requirements) for name, requirements in extras.items())
    return rows, torch


def with_bounds(requirement: "Requirement") -> str:
    """Return the name and the bounds of a requirement, without its marker."""
    return f"{requirement.name}{requirement.specifier}"


def is_fit(version: str, requirement: "Requirement") -> bool:
    """Tell whether a version is within the bounds; a pre-release may be."""
    from packaging.version import InvalidVersion

    try:
        return requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _requirements() -> tuple[list["Requirement"], dict[str, list["Requirement"]]]:
    """Return what mtrain requires, and what each extra adds; not the extras made of others."""
    from packaging.requirements import Requirement

    given = [Requirement(line) for line in metadata.requires("mtrain") or ()]

    def chosen(extra: str) -> list[Requirement]:
        return [
            each for each in given if each.marker is None or each.marker.evaluate({"extra": extra})
        ]

    needed = chosen("")
    names = metadata.metadata("mtrain").get_all("Provides-Extra") or []
    extras = {name: [each for each in chosen(name) if each not in needed] for name in names}
    return needed, {
        name: added
        for name, added in extras.items()
        if all(each.name != "mtrain" for each in added)
    }


def _dependencies(needed: list["Requirement"]) -> Row:
    wrong = {with_bounds(each): fault for each in needed if (fault := _fault(each))}
    if wrong:
        return Row("dependencies", "; ".join(wrong.values()), BROKEN, pip("install", *wrong))
    return Row("dependencies", f"{len(needed)} packages, all within their bounds")


def _extra(name: str, requirements: list["Requirement"]) -> Row:
    purpose = f"; for {PURPOSES[name]}" if name in PURPOSES else ""
    if faults := [fault for each in requirements if (fault := _fault(each))]:
        mend = pip("install", f"mtrain[{name}]")
        return Row(f"extra {name}", "; ".join(faults) + purpose, NOTE, mend)
    versions = (f"{each.name} {_version(each.name)}" for each in requirements)
    return Row(f"extra {name}", ", ".join(versions) + purpose)


def _fault(requirement: "Requirement") -> str:
    """Return what is wrong with a package; nothing if it is there and within its bounds."""
    version = _version(requirement.name)
    if version is None:
        return f"{requirement.name} is not installed"
    if is_fit(version, requirement):
        return ""
    return f"{requirement.name} is {version}, not {requirement.specifier}"


def _version(name: str) -> str | None:
    try:
        version: str | None = metadata.version(name)  # None from damaged metadata
    except metadata.PackageNotFoundError:
        return None
    return version
