"""`mtrain backtranslate`: translate the monolingual corpora of a configuration for training.

Text in the target language gets sources from a run of the reverse direction (back-translation,
Sennrich 2016); text in the source language gets targets from a run of the same direction
(self-training, and data diversification, Nguyen 2020). `prepare` then reads each as a corpus.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from mtrain.config import Config
from mtrain.config.corpora import Languages, MonolingualText, PairFiles
from mtrain.console import progress, say
from mtrain.data.folders import OpenedRun, hold
from mtrain.data.plan import derive_seed
from mtrain.decoding.journal import Journal
from mtrain.decoding.stream import LineTally
from mtrain.decoding.translator import Translator
from mtrain.errors import UserError
from mtrain.inference.load import LoadedRun, load_run
from mtrain.text.checks import check_readable
from mtrain.text.languages import find_language
from mtrain.text.lines import blocks, file_digest, file_digests, read_lines

BLOCK_LINES = 2_000  # what a kill loses at most
NO_MATTER = {"buffer_lines", "source_lang", "target_lang", "n_best"}  # options without effect here


def backtranslate(
    opened: OpenedRun, config: Config, corpus_name: str | None, checkpoint_name: str | None
) -> str:
    """Translate the monolingual corpora, or the named one; return what to do next.

    The same command resumes after a kill, and leaves alone what is done. Raises UserError if the
    configuration has no such corpus, or if the run translates in no direction that one needs.
    """
    corpora = _chosen(config, corpus_name)
    known = opened[1].data.directions
    directions = {corpus.stem: _direction(opened[1], corpus, config) for corpus in corpora}
    if not any(directions.values()):
        raise _no_direction(corpora[0], config, known)
    loaded = load_run(*opened, checkpoint_name)
    for corpus in corpora:
        languages = directions[corpus.stem]
        if languages is None:
            say(f"{corpus.text}: left for a run that translates it {_wanted(corpus, config)}")
            continue
        translation = config.translation_of(corpus)
        lock_path = translation.with_name(f".{translation.name}.lock")
        with hold(lock_path, f"{translation}: another `mtrain backtranslate` is at work here"):
            _translate(loaded, languages, corpus, translation)
    return "next: mtrain prepare, then mtrain train, with the same configuration"


def _chosen(config: Config, name: str | None) -> list[MonolingualText]:
    """Return the monolingual corpora to translate, after a look at their files."""
    corpora = [corpus for corpus in config.data.train if isinstance(corpus, MonolingualText)]
    known = [corpus.stem for corpus in corpora]
    if name is not None and name not in known:
        raise UserError(
            f"data.train has no monolingual corpus {name}",
            f"there are: {', '.join(known) or 'none'}",
        )
    if not corpora:
        raise UserError(
            "data.train has no monolingual corpus",
            "add one: - {text: news.de.gz, lang: de}",
        )
    chosen = [corpus for corpus in corpora if name in (None, corpus.stem)]
    for corpus in chosen:
        unusable = check_readable(PairFiles(source=corpus.text, target=corpus.text))
        if unusable:
            raise UserError(unusable[0])
    return chosen


def _direction(of_run: Config, corpus: MonolingualText, config: Config) -> Languages | None:
    """Return the direction of a run, in its own codes, that translates the corpus, if it has one.

    Codes of another form name the same language: deu and de, but not pt-PT and pt-BR.
    """
    wanted = corpus.lang, config.other_language(corpus)
    known = of_run.data.directions
    if wanted in known:
        return wanted
    for languages in known:
        if all(map(_is_same_language, languages, wanted)):
            return languages
    is_imported = not of_run.data.train  # of a model whose vocabulary knows its languages
    return wanted if is_imported and of_run.tokenizer.names("target") else None


def _is_same_language(one: str, other: str) -> bool:
    regions = [re.findall(r"[-_]([A-Za-z]{2}|[0-9]{3})(?![A-Za-z0-9])", code)
               for code in (one, other)]  # fmt: skip
    return regions[0] == regions[1] and find_language(one) == find_language(other)


def _wanted(corpus: MonolingualText, config: Config) -> str:
    return f"{corpus.lang} to {config.other_language(corpus)}"


def _no_direction(corpus: MonolingualText, config: Config, known: Sequence[Languages]) -> UserError:
    is_backward = corpus.lang == config.data.languages_of(corpus)[1]
    return UserError(
        f"{corpus.text}: needs a run that translates {_wanted(corpus, config)}; this one "
        f"translates {', '.join(' to '.join(languages) for languages in known)}",
        "train one first: "
        + ("the same corpora with source and target exchanged" if is_backward else
           "the same corpora without this one"),
    )  # fmt: skip


def _translate(
    loaded: LoadedRun, languages: Languages, corpus: MonolingualText, translation: Path
) -> None:
    identity: dict[str, Any] = {
        "text": file_digest(corpus.text),
        "languages": list(languages),
        "model": file_digests(loaded.checkpoint),
        "seed": loaded.config.seed,
        "decoding": loaded.config.decoding.model_dump(
            mode="json", exclude_defaults=True, exclude=NO_MATTER
        ),
    }
    if Journal.is_complete(translation, identity):
        say(f"{translation}: translated before, nothing to do")
        return
    with Journal(translation, identity) as journal:
        if journal.num_lines:
            say(f"{translation}: resuming after {journal.num_lines:,} lines")
        elif journal.drops_others:
            say(f"{translation}: begun with another model, text or search; starting afresh")
        start = journal.num_lines
        tally, lines = LineTally(), read_lines(corpus.text)
        for _ in islice(lines, journal.num_lines):
            pass
        with progress(
            f"translating {corpus.stem}", unit="lines", initial=journal.num_lines
        ) as shown:
            for translator, block in _with_translators(loaded, languages, lines, journal.num_lines):
                found = translator.translate(block, shown.advance)
                for each in found:
                    tally.note(each)
                journal.append([each.text.encode() for each in found])
        journal.finish()
    earlier = f" after {start:,} translated earlier" if start else ""
    say(f"{translation}: {tally}{earlier}")


def _with_translators(
    loaded: LoadedRun, languages: Languages, lines: Iterator[bytes], start: int
) -> Iterator[tuple[Translator, list[bytes]]]:
    """Yield blocks of lines, each with its translator; `start` is the number of the first line.

    Sampling depends on the seed and the block alone, so that it is the same after a kill.
    """
    loaded = loaded.with_decoding(n_best=1)
    translator = loaded.translator(languages)
    is_random = loaded.config.decoding.method == "sample"
    for block in blocks(lines, BLOCK_LINES):
        if is_random:
            seed = derive_seed(loaded.config.seed, "backtranslate", start)
            seeded = loaded.config.model_copy(update={"seed": seed})
            translator = replace(loaded, config=seeded).translator(languages)
        yield translator, block
        start += len(block)
