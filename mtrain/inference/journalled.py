"""Resumable translation into files: after a kill the same command continues.

`backtranslate` and `distill` translate a whole corpus, and begin afresh if anything has changed.
`translate` refuses to: its unfinished output may be what a user wants to keep.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from mtrain.checkpoints.format import weights_digest
from mtrain.config.compare import differences
from mtrain.config.corpora import Languages
from mtrain.config.decoding import DecodingConfig
from mtrain.config.protection import name_of
from mtrain.console import progress, say
from mtrain.decoding.journal import Journal
from mtrain.decoding.outputs import Outputs
from mtrain.decoding.stream import LineTally
from mtrain.decoding.translator import Translation
from mtrain.errors import UserError
from mtrain.inference.load import LoadedRun
from mtrain.text.lines import blocks

BLOCK_LINES = 2_000  # what a kill loses at most
NO_MATTER = {"buffer_lines", "source_lang", "target_lang"}  # options without effect here


def translate_lines(
    loaded: LoadedRun,
    languages: Languages,
    lines: Iterator[bytes],
    inputs: dict[str, Any],
    output: Path,
    written: Callable[[Translation], str],
) -> None:
    """Translate lines into a file, each as `written` says, and report what became of them.

    `inputs` identifies the lines. An output of the same lines, model and search is left alone.
    """
    identity = inputs | run_identity(loaded, languages)
    if Journal.is_complete(output, identity):
        say(f"{output}: translated before, nothing to do")
        return
    if output.exists():
        say(f"{output}: of another model, text or search; translating afresh")
    output.parent.mkdir(parents=True, exist_ok=True)
    with Journal(output) as journal:
        if journal.earlier is not None and not journal.resumes(identity):
            say(f"{output}: begun with another model, text or search; starting afresh")
        journal.begin(identity)
        fresh = LineTally(lost=0 if loaded.config.data.protect else None)
        tally = resumed_tally(journal, output, fresh)
        for _ in islice(lines, tally.lines):
            pass
        translator = loaded.translator(languages)
        with progress(f"translating {output.stem}", initial=tally.lines) as shown:
            for block in blocks(lines, BLOCK_LINES):
                numbers = range(tally.lines, tally.lines + len(block))
                found = translator.translate(block, shown.advance, numbers)
                for each in found:
                    tally.note(each)
                content = b"".join(written(each).encode() + b"\n" for each in found)
                journal.append([content], len(block), {"tally": asdict(tally)})
        journal.finish(identity)
    say(f"{output}: {tally}")


def resumed_tally(outputs: Outputs, output: object, fresh: LineTally) -> LineTally:
    """Return the counts of the lines that are done, and say so; without any, the `fresh` ones."""
    if not outputs.num_lines:
        return fresh
    say(f"{output}: resuming after {outputs.num_lines:,} lines")
    return LineTally(**outputs.notes["tally"])


def begin_or_refuse(journal: Journal, identity: Mapping[str, Any]) -> None:
    """Begin or resume the work of a journal.

    Raises UserError, saying what differs, for one that another model, search or command has begun.
    """
    earlier = journal.earlier
    if earlier is None or journal.resumes(identity):
        journal.begin(identity)
        return
    changed = _described_differences(earlier.identity, identity)
    if not earlier.identity:
        raise _useless(journal, "its journal cannot be read: damaged, or of another version")
    if changed and journal.is_named():
        journal.begin(identity)
        return
    if not changed:
        raise _useless(journal, "its lines are not all there")
    raise refusal(
        journal,
        "this command differs from the one that began it:"
        + "".join(f"\n  {difference}" for difference in changed),
    )


def refusal(journal: Journal, told: str) -> UserError:
    """Return the error for a journal that this command cannot resume, but another can."""
    lines = journal.earlier.lines if journal.earlier is not None else 0
    return UserError(
        f"{journal.paths[0]}: there is an unfinished translation of {lines:,} lines, and {told}",
        "finish it with the command and the text that began it, or remove "
        f"{journal.record_path} to begin afresh",
    )


def _useless(journal: Journal, told: str) -> UserError:
    """Return the error for a journal that no command can resume."""
    return UserError(
        f"{journal.paths[0]}: there is an unfinished translation, and {told}",
        f"remove {journal.record_path} to begin afresh",
    )


def run_identity(loaded: LoadedRun, languages: Languages) -> dict[str, Any]:
    """Return, as JSON values, what translations by a run depend on besides the text."""
    others = [weights_digest(other.checkpoint) for other in loaded.others]
    protect = loaded.config.data.protect
    return {
        "languages": list(languages),
        "model": weights_digest(loaded.checkpoint),
        **({"others": others} if others else {}),
        **({"protect": list(map(name_of, protect))} if protect else {}),
        "seed": loaded.config.seed,
        "decoding": loaded.config.decoding.model_dump(
            mode="json", exclude_defaults=True, exclude=NO_MATTER
        ),
    }


def _described_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a line for each difference between the identities of two commands."""
    defaults = DecodingConfig().model_dump(mode="json")
    both = (
        {**identity, "decoding": defaults | identity.get("decoding", {})} for identity in (old, new)
    )
    told = []
    for key, (before, after) in differences(*both).items():
        if key == "model":
            told.append("the model, or its checkpoint")
        elif key.startswith("others."):
            told.append("the models of --with")
        else:
            told.append(f"{key}: {_told(before)} then, {_told(after)} now")
    return list(dict.fromkeys(told))


def _told(value: Any) -> str:
    return "nothing" if value is None else str(value)
