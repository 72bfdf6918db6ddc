"""Identity of prepared data: the settings and the content of each input, not its path.

Checks the inputs as it describes them. Works on manifest entries; does not import torch.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtrain.config.compare import differences, only_moved
from mtrain.config.corpora import Corpus, MonolingualText, PairFiles
from mtrain.config.run import Config
from mtrain.config.tokenizer import SidePaths
from mtrain.data.manifest import data_settings
from mtrain.errors import UserError
from mtrain.text.checks import check_readable
from mtrain.text.corpora import input_digests
from mtrain.text.encoding import refuse_pointer
from mtrain.text.lines import file_digest
from mtrain.text.tokenizer import SEPARATOR, Tokenizer, no_such_tokenizer
from mtrain.text.tokenizer_model import append_symbols


def input_contents(config: Config, corpora: Sequence[Corpus]) -> dict[str, Any]:
    """Return the digest of every file of the corpora and of every given tokenizer.

    Raises FileNotFoundError for a missing file.
    """
    paths = config.tokenizer.path
    given = [paths.source, paths.target] if isinstance(paths, SidePaths) else [paths]
    return {
        "inputs": [digest for corpus in corpora for digest in input_digests(corpus)],
        "given_tokenizers": [file_digest(path) for path in given if path is not None],
    }


def translated_text(translation: Path) -> str | None:
    """Return the digest of the text that `mtrain backtranslate` translated, or None if unknown."""
    try:
        about = json.loads(translation.with_name(f"{translation.name}.json").read_bytes())
        return str(about["text"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def same_inputs(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two descriptions mean the same data.

    They have settings, inputs, given_tokenizers, features_model if the model reads features, and
    teacher_model if they have a teacher's distributions.
    """
    return (
        only_moved(differences(one["settings"], other["settings"]))
        and same_contents(one, other)
        and all(one.get(key) == other.get(key) for key in ("features_model", "teacher_model"))
    )


def same_contents(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two descriptions have inputs of the same content in the same order."""
    return _contents(one) == _contents(other)


def _contents(description: Mapping[str, Any]) -> tuple[Any, Any]:
    return _without_paths(description["inputs"]), description.get("given_tokenizers")


def contents_of(corpus: Corpus) -> list[dict[str, Any]]:
    """Return what identifies the content of a corpus, wherever its files are."""
    return _without_paths(input_digests(corpus))


def _without_paths(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "path"} for entry in entries]


def about_distilled(files: PairFiles) -> Path:
    """Return the file that says what a teacher's translations were made of, as JSON."""
    return files.source.with_suffix(".json")


def describe_inputs(config: Config) -> dict[str, Any]:
    """Return what determines a data folder's content: settings and the digest of every input.

    Raises one `UserError` that lists all missing or unusable files.
    """
    _refuse_untranslated(config)
    _refuse_undistilled(config)
    corpora = config.corpora
    _check_files(config, corpora)
    return {
        "settings": data_settings(config),
        **input_contents(config, corpora),
    }


def check_undistilled(config: Config) -> None:
    """Raise UserError, as `describe_inputs` does, for what `mtrain distill` does not make."""
    _refuse_untranslated(config)
    train = [corpus for corpus in config.data.train if not config.is_distilled(corpus)]
    _check_files(config, list(map(config.pairs_of, [*train, *config.data.held_out])))


def _check_files(config: Config, corpora: Sequence[Corpus]) -> None:
    """Raise one UserError that lists the files of corpora and tokenizers that cannot be used."""
    missing = [message for corpus in corpora for message in check_readable(corpus)]
    paths = config.tokenizer.path
    given = [paths.source, paths.target] if isinstance(paths, SidePaths) else [paths]
    missing += [no_such_tokenizer(path) for path in given
                if path is not None and not path.is_file()]  # fmt: skip
    if missing:
        raise UserError("\n".join(dict.fromkeys(missing)))
    for path in given:
        if path is not None:
            refuse_pointer(path)
            tokenizer = Tokenizer(path)  # load it now: a later error would name the copy
            if config.data.context is not None and SEPARATOR not in config.tokenizer.symbols:
                _ = tokenizer.separator_id
            if config.data.protect:
                tokenizer.require_protected_pieces(besides=config.tokenizer.symbols)
            append_symbols(path, config.tokenizer.symbols)


def _refuse_undistilled(config: Config) -> None:
    """Raise UserError for a training corpus whose present text no teacher has translated."""
    for corpus in filter(config.is_distilled, config.data.train):
        files, original = config.distilled_pairs(corpus), config.distilled_from(corpus)
        problem = ""
        if not (files.source.is_file() and files.target.is_file()):
            problem = "the teacher's translations of data.train are not there yet"
        elif not check_readable(original) and _distilled_inputs(files) != contents_of(original):
            problem = "these are translations of another text than data.train has now"
        if problem:
            raise UserError(
                f"{files.target}: {problem}",
                "run first: mtrain distill TEACHER CONFIG.yaml, which prepares and trains too",
            )


def _distilled_inputs(files: PairFiles) -> Any:
    """Return what identifies the text that a teacher has translated, or None if unknown."""
    try:
        return json.loads(about_distilled(files).read_bytes())["inputs"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _refuse_untranslated(config: Config) -> None:
    """Raise UserError for monolingual text that `mtrain backtranslate` has not translated."""
    if config.learns_from_text:
        return
    for corpus in config.data.train:
        if config.is_distilled(corpus):
            continue
        if isinstance(corpus, MonolingualText) and corpus.text.exists():
            other, translation = config.other_language(corpus), config.translation_of(corpus)
            problem = ""
            if not translation.exists():
                problem = f"there is no translation into {other} yet ({translation})"
            elif translated_text(translation) != file_digest(corpus.text):
                problem = f"{translation} is the translation of another text"
            if problem:
                raise UserError(
                    f"{corpus.text}: {problem}",
                    "run first: mtrain backtranslate RUN CONFIG.yaml, with a RUN that translates "
                    f"{corpus.lang} to {other}",
                )
