"""Translation of a whole corpus into a file; a killed one resumes and ends in the same bytes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from mtrain.checkpoints.format import weights_digest
from mtrain.config.corpora import Languages
from mtrain.config.protection import name_of
from mtrain.console import progress, say
from mtrain.data.plan import derive_seed
from mtrain.decoding.journal import Journal
from mtrain.decoding.stream import LineTally
from mtrain.decoding.translator import Translation, Translator
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
    identity = inputs | _identity(loaded, languages)
    if Journal.is_complete(output, identity):
        say(f"{output}: translated before, nothing to do")
        return
    with Journal(output, identity) as journal:
        start = journal.num_lines
        if start:
            say(f"{output}: resuming after {start:,} lines")
        elif journal.drops_others:
            say(f"{output}: begun with another model, text or search; starting afresh")
        tally = LineTally(lost=0 if loaded.config.data.protect else None)
        for _ in islice(lines, start):
            pass
        with progress(f"translating {output.stem}", unit="lines", initial=start) as shown:
            for translator, block in _with_translators(loaded, languages, lines, start):
                found = translator.translate(block, shown.advance)
                for each in found:
                    tally.note(each)
                journal.append([written(each).encode() for each in found])
        journal.finish()
    earlier = f" after {start:,} translated earlier" if start else ""
    say(f"{output}: {tally}{earlier}")


def _identity(loaded: LoadedRun, languages: Languages) -> dict[str, Any]:
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


def _with_translators(
    loaded: LoadedRun, languages: Languages, lines: Iterator[bytes], start: int
) -> Iterator[tuple[Translator, list[bytes]]]:
    """Yield blocks of lines, each with its translator; `start` is the number of the first line.

    Sampling depends on the seed and the block alone, so that it is the same after a kill.
    """
    translator = loaded.translator(languages)
    is_random = loaded.config.decoding.method == "sample"
    for block in blocks(lines, BLOCK_LINES):
        if is_random:
            seed = derive_seed(loaded.config.seed, "backtranslate", start)
            seeded = loaded.config.model_copy(update={"seed": seed})
            translator = replace(loaded, config=seeded).translator(languages)
        yield translator, block
        start += len(block)
