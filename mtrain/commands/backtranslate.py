"""`mtrain backtranslate`: translate the monolingual corpora of a configuration for training.

Text in the target language gets sources from a run of the reverse direction (back-translation,
Sennrich 2016); text in the source language gets targets from a run of the same direction
(self-training, and data diversification, Nguyen 2020). `prepare` then reads each as a corpus.
"""

from collections.abc import Sequence
from pathlib import Path

from mtrain.config import Config
from mtrain.config.corpora import Languages, MonolingualText, PairFiles
from mtrain.console import say
from mtrain.data.folders import OpenedRun
from mtrain.errors import UserError
from mtrain.inference.directions import direction_of
from mtrain.inference.journalled import translate_lines
from mtrain.inference.load import LoadedRun, load_run
from mtrain.text.checks import check_readable
from mtrain.text.lines import file_digest, read_lines


def backtranslate(
    opened: OpenedRun, config: Config, corpus_name: str | None, checkpoint_name: str | None
) -> str:
    """Translate the monolingual corpora, or the named one; return what to do next.

    The same command resumes after a kill, and leaves alone what is done. Raises UserError if the
    configuration has no such corpus, or if the run translates in no direction that one needs.
    """
    corpora = _chosen(config, corpus_name)
    known = opened[1].data.directions
    directions = {
        corpus.stem: direction_of(opened[1], (corpus.lang, config.other_language(corpus)))
        for corpus in corpora
    }
    if not any(directions.values()):
        raise _no_direction(corpora[0], config, known)
    loaded = load_run(*opened, checkpoint_name)
    for corpus in corpora:
        languages = directions[corpus.stem]
        if languages is None:
            say(f"{corpus.text}: left for a run that translates it {_wanted(corpus, config)}")
            continue
        _translate(loaded, languages, corpus, config.translation_of(corpus))
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
    translate_lines(
        loaded.with_decoding(n_best=1),
        languages,
        read_lines(corpus.text),
        {"text": file_digest(corpus.text)},
        translation,
        lambda found: found.text,
    )
