"""`mtrain init`: look at a corpus and at the machine, and write a configuration with reasons."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

from mtrain.config.advice import Choice, Machine, Task, advise
from mtrain.config.corpora import Languages, PairFiles
from mtrain.config.draft import draft
from mtrain.config.load import check_text
from mtrain.console import say, warn
from mtrain.errors import UserError
from mtrain.text.corpora import read_pairs
from mtrain.text.identification import is_installed
from mtrain.text.languages import require_language
from mtrain.text.lines import write_whole
from mtrain.text.naming import OPTIONS, Codes, NamedCorpus, find_corpus
from mtrain.text.survey import (
    Sample,
    SideLanguage,
    Survey,
    describe_lengths,
    find_dirt,
    languages_of,
    survey,
    tokens_of,
)

# A check is turned on if so large a share of a sample fails it. Of fewer, many are good pairs. If
# more fail, the check does not fit the corpus, or the corpus has a fault that no filter mends.
LEAST_DIRT, MOST_DIRT = 0.005, 0.1


def init(paths: Sequence[str], name: str, minutes: float, given: Codes) -> str:
    """Write NAME.yaml for the corpus in `paths`, and return the commands to type next."""
    path, run_dir = _free_places(name)
    if not (math.isfinite(minutes) and minutes > 0):
        raise UserError(f"--minutes: {minutes:g} minutes are not possible", "for example: 60")
    _check_codes(given)
    named = find_corpus(paths, given)
    known = named.languages[0] or "", named.languages[1] or ""
    found = survey(read_pairs(named.corpus, known))
    kept = found.sample.kept()
    sides = languages_of(kept, named.languages)
    languages = sides[0].code, sides[1].code
    dirt = list(find_dirt(kept, languages))
    machine = _machine()
    task = Task(found.num_sources, found.num_pairs - found.num_duplicates,
                tokens_of(kept, languages), minutes, machine)  # fmt: skip
    advice = advise(task)
    _tell(found, kept, languages, dirt, machine)
    data = [
        *_languages(path, named, given, sides),
        Choice("train", [named.keys], f"{found.num_pairs:,} pairs, {found.num_sources:,} "
               "different sources"),
        *advice.pop("data"),
        *_filters(dirt),
    ]  # fmt: skip
    opening = [
        f"Written by `mtrain init`: {found.num_pairs:,} pairs {languages[0]}-{languages[1]}, "
        f"{minutes:g} minutes of training.",
        f"The machine: {_describe(machine)}.",
    ]
    top = [Choice("run_dir", run_dir, "the model, and all that `translate` needs")]
    text = draft(opening, top, {"data": data, **advice})
    check_text(text, f"{path} (not written)")
    with write_whole(path) as file:
        file.write(text.encode())
    say(f"{path}: written")
    source, target = languages
    return "\n".join(
        (
            f"mtrain prepare {path}",
            f"mtrain train {path} --check",
            f"mtrain train {path}",
            f"mtrain translate {run_dir} new.{source} --output new.{target}",
            f"mtrain score {run_dir}",
        )
    )


def _free_places(name: str) -> tuple[Path, str]:
    """Return where the configuration and the run go. Raises UserError if something is there."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(
            f"--name: {name!r} is no file name of letters, digits, dots, dashes and underscores",
            "for example: --name my-model",
        )
    path, run_dir = Path(f"{name}.yaml"), f"runs/{name}"
    for place in (path, Path(run_dir)):
        if place.exists() or place.is_symlink():
            raise UserError(
                f"{place}: exists already; nothing was changed", "choose another --name"
            )
    return path, run_dir


def _machine() -> Machine:
    from mtrain.runtime.machine import look_at_machine  # torch, after what may be refused

    return look_at_machine()


def _describe(machine: Machine) -> str:
    if machine.gpu:
        return f"one {machine.gpu} ({machine.precision})"
    cores = f"{machine.num_cores} CPU core{'s' * (machine.num_cores > 1)}"
    return f"{cores} ({machine.precision}: {machine.reason})"


def _check_codes(given: Codes) -> None:
    """Raise UserError if a given language is unknown."""
    for side, code in zip(("source", "target"), given, strict=True):
        if code is not None:
            require_language(code, f"--{side}-lang names the language of the {side}")


def _languages(
    path: Path, named: NamedCorpus, given: Codes, sides: Sequence[SideLanguage]
) -> list[Choice]:
    is_from_field = bool(named.origin) and not isinstance(named.corpus, PairFiles)
    mended = "with its field renamed" if is_from_field else f"with {OPTIONS}"
    choices = []
    for side, option, known, found in zip(
        ("source", "target"), given, named.languages, sides, strict=True
    ):
        looks = f"{found.share:.0%} of a sample looks like {found.seen}" if found.seen else ""
        origin = "as given" if option else named.origin if known else ""
        choices.append(Choice(f"{side}_lang", found.code, "; ".join(filter(None, (origin, looks)))))
        if found.is_doubtful:
            warn(
                f"the {side} is called {found.code}, but {looks}: if so, remove {path} and start "
                f"again {mended}"
            )
    return choices


def _filters(dirt: Sequence[tuple[str, int, int]]) -> list[Choice]:
    chosen = [(check, fails, of) for check, fails, of in dirt
              if LEAST_DIRT * of <= fails <= MOST_DIRT * of and fails]  # fmt: skip
    if not chosen:
        return []
    told = ", ".join(f"{check} {fails:,} of {of:,}" for check, fails, of in chosen)
    return [Choice("filters", {"checks": [check for check, _, _ in chosen]},
                   f"pairs of a sample that fail: {told}")]  # fmt: skip


def _tell(
    found: Survey,
    kept: Sample,
    languages: Languages,
    dirt: Sequence[tuple[str, int, int]],
    machine: Machine,
) -> None:
    """Say on stderr what was found."""
    seen = len(found.sample.codes)
    say(f"pairs     {found.num_pairs:,}; {found.num_sources:,} different sources, "
        f"{found.num_duplicates:,} pairs repeat an earlier one")  # fmt: skip
    for side, code, lengths in zip(
        ("source", "target"), languages, describe_lengths(kept), strict=True
    ):
        say(f"{side:<9} {code}: {lengths} a line")
    for fault, told in (("invalid_utf8", "not UTF-8"), ("empty", "empty on a side"),
                        ("identical", "the same on both sides")):  # fmt: skip
        if count := found.sample.count(fault):
            say(f"faults    {count:,} of {seen:,} pairs are {told}")
    for check, fails, of in dirt:
        if fails:
            say(f"checks    {fails:,} of {of:,} pairs fail the check `{check}`")
    if not is_installed():
        say("languages taken from names alone; with pip install 'mtrain[langid]' the text is read")
    say(f"machine   {_describe(machine)}")
