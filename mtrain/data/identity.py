"""Identity of prepared data: the settings and the content of each input, not its path.

Works on manifest entries; does not import torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mtrain.config.compare import differences, only_moved
from mtrain.config.data import Corpus
from mtrain.config.run import Config
from mtrain.config.tokenizer import SidePaths
from mtrain.text.corpora import input_digests
from mtrain.text.lines import file_digest


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


def same_inputs(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two descriptions (settings, inputs, given_tokenizers) mean the same data."""
    return only_moved(differences(one["settings"], other["settings"])) and same_contents(one, other)


def same_contents(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two descriptions have inputs of the same content in the same order."""
    return _contents(one) == _contents(other)


def _contents(description: Mapping[str, Any]) -> tuple[Any, Any]:
    inputs = [
        {key: value for key, value in entry.items() if key != "path"}
        for entry in description["inputs"]
    ]
    return inputs, description.get("given_tokenizers")
