"""Features of source lines: the states of a frozen BERT, for a model that reads them.

Shapes: B lines, F tokens of the BERT, end mark included, Df its width.
"""

import shutil
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mtrain.checkpoints.format import MODEL, load_checkpoint, save_checkpoint, weights_digest
from mtrain.config import Config
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.data.makers.texts import pad_texts
from mtrain.data.plan import plan_in_order
from mtrain.data.store import IntArray
from mtrain.decoding.source_features import SourceFeatures
from mtrain.decoding.splitting import split_pieces
from mtrain.errors import UserError
from mtrain.inference.search import ready
from mtrain.inference.weights import languages_of_text, load_model
from mtrain.models.bert import Bert
from mtrain.nn.feature_attention import Features
from mtrain.runtime.precision import Precision
from mtrain.runtime.threads import ordered_map
from mtrain.text.lines import file_digest, make_readable
from mtrain.text.tokenizer import Tokenizer, available_cores

KEY = "model.features.run"


class BertFeatures(SourceFeatures):
    """Computes the states of one layer of a BERT, in half precision, as `prepare` keeps them.

    A line that is longer than the BERT reads at once is read in parts.
    """

    def __init__(
        self,
        model: Bert,
        tokenizer: Tokenizer,
        layer: int,
        precision: Precision,
        batch_tokens: int,
        checkpoint: Path,
    ) -> None:
        """Take a BERT and the layer to read: from 1 on, or backwards from -1.

        Raises `UserError` if there is no such layer.
        """
        self.layer = layer if layer > 0 else model.num_layers + 1 + layer
        if not 1 <= self.layer <= model.num_layers:
            raise UserError(
                f"model.features.layer: there is no layer {layer}: this BERT has "
                f"{model.num_layers}",
                f"choose 1 to {model.num_layers}, or -1 for the last",
            )
        self.width = model.source_embedding.embedding_dim
        self.precision = precision
        self.checkpoint = checkpoint
        self.identity = f"{weights_digest(checkpoint)}:{file_digest(tokenizer.path)}"
        self._model, self._autocast = ready(model.eval(), precision)
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens
        self._max_ids = model.max_positions - 1

    @property
    def run(self) -> RunFolder:
        """The run of the BERT."""
        return RunFolder(self.checkpoint.parents[1])

    def of(self, texts: Sequence[str]) -> Features:
        states = self.states(texts)
        lengths = torch.tensor([len(each) for each in states], device=self.precision.device)
        return Features(pad_sequence(states, batch_first=True), lengths)

    def lengths(self, texts: Sequence[str]) -> tuple[IntArray, int]:
        """Return the number of states (B,) of each line, and how many lines are read in parts."""
        parts = self._parts(texts)
        counts = [sum(len(ids) + 1 for ids in of_line) for of_line in parts]
        return np.array(counts, np.int64), sum(len(of_line) > 1 for of_line in parts)

    def states(
        self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda _: None
    ) -> list[Tensor]:
        """Return the states (F,Df) of each line; tell `on_progress` how many more parts are read.

        Raises `UserError` if a state is too large for half precision.
        """
        parts = self._parts(texts)
        every = [ids for of_line in parts for ids in of_line]
        lengths = np.array([len(ids) + 1 for ids in every], np.int64)
        plan = plan_in_order(lengths, lengths, self._batch_tokens)
        found: dict[int, Tensor] = {}
        with ordered_map(lambda rows: self._read([every[row] for row in rows]),
                         self.precision.device) as each:  # fmt: skip
            for rows, states in zip(plan, each(plan), strict=True):
                found |= zip(rows.tolist(), states, strict=True)
                on_progress(len(rows))
        ends = accumulate((len(of_line) for of_line in parts), initial=0)
        return [torch.cat([found[row] for row in range(*bounds)]) for bounds in pairwise(ends)]

    def _parts(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """Return the ids of each line in as many parts as the BERT has to read, at least one."""
        prefix = self._tokenizer.prefix
        parts = []
        for ids in self._tokenizer.encode(texts, available_cores()):
            if len(ids) <= self._max_ids:
                parts.append([ids])
                continue
            bare = ids[len(prefix) :]
            ends = split_pieces(self._tokenizer.pieces(bare), self._max_ids - len(prefix))
            parts.append([[*prefix, *bare[start:end]] for start, end in pairwise([0, *ends])])
        return parts

    @torch.inference_mode()
    def _read(self, parts: Sequence[list[int]]) -> list[Tensor]:
        nothing_masked: list[list[int]] = [[] for _ in parts]
        batch = pad_texts(parts, nothing_masked, self._tokenizer.eos_id).to(self.precision.device)
        with self._autocast():
            states = self._model.hidden_states(batch, num_layers=self.layer)
        halves = states.to(torch.float16)
        if not bool(halves.isfinite().all()):
            raise UserError(
                f"{KEY}: states of layer {self.layer} are too large for half precision, or NaN",
                "choose another model.features.layer",
            )
        return [row[: len(ids) + 1] for row, ids in zip(halves, parts, strict=True)]


class RememberedFeatures(SourceFeatures):
    """Features of lines that come again and again, as at each validation."""

    def __init__(self, features: BertFeatures) -> None:
        self.width = features.width
        self._features = features
        self._known: dict[str, Tensor] = {}

    def of(self, texts: Sequence[str]) -> Features:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            states = self._features.states(new)
            self._known |= {text: each.cpu() for text, each in zip(new, states, strict=True)}
        rows = [self._known[text] for text in texts]
        lengths = torch.tensor([len(each) for each in rows])
        return Features(pad_sequence(rows, batch_first=True), lengths).to(
            self._features.precision.device
        )


def open_features(folder: Path, config: Config) -> BertFeatures:
    """Return the features that the BERT in a run folder computes for a configuration.

    Raises `UserError` if the folder is not the run of a BERT, or cannot be loaded.
    """
    assert config.features is not None
    if (folder / "config.json").is_file() and not (folder / "config.yaml").is_file():
        raise UserError(
            f"{folder}: this is a Hugging Face model, not a run",
            f"import it first: mtrain import {folder} RUN; then name RUN in {KEY}",
        )
    run = RunFolder.open(folder)
    precision = f"decoding.precision={config.decoding.precision}"
    of_bert = run.config((f"device={config.device}", precision))
    if of_bert.model.type != "bert":
        raise UserError(
            f"{folder}: the model of this run is a {of_bert.model.type}, and {KEY} takes a bert",
            "name the run of a bert, trained with training.objective: masked_lm, or imported",
        )
    tokenizers, model, chosen, checkpoint = load_model(run, of_bert, None)
    prefixes = of_bert.tokenizer.prefixes(languages_of_text(of_bert))
    assert isinstance(model, Bert)
    batch_tokens = of_bert.decoding.tokens_at_once(chosen.device.type)
    tokenizer = tokenizers.with_prefixes(prefixes).source
    return BertFeatures(model, tokenizer, config.features.layer, chosen, batch_tokens, checkpoint)


def features_to_prepare(config: Config) -> BertFeatures | None:
    """Return the features of the configured BERT, or, where it is gone, of a run's copy of it."""
    if config.features is None:
        return None
    folders = [config.features.run, *_copies(config)]
    return _open(next((folder for folder in folders if folder.exists()), folders[0]), config)


def features_to_train(config: Config, data: DataFolder) -> BertFeatures | None:
    """Return the features that the data were prepared with, of the run's own copy if it has one.

    Raises `UserError` if neither a copy nor the configured BERT is the one.
    """
    if config.features is None:
        return None
    problem: UserError | None = None
    for folder in (*_copies(config), config.features.run):
        try:
            features = _open(folder, config)
        except UserError as error:
            problem = error
            continue
        if features.identity == data.manifest()["features_model"]:
            return features
        problem = UserError(
            f"{KEY}: {folder}: not the BERT that {data.path} was prepared with",
            "run `mtrain prepare` with this configuration again",
        )
    assert problem is not None
    raise problem


def features_of_run(run: RunFolder, config: Config) -> BertFeatures | None:
    """Return the features that the model of a run reads, by the run's own copy of the BERT."""
    if config.features is None:
        return None
    try:
        return open_features(run.features, config)
    except UserError as error:
        raise UserError(
            f"{run.features}: the BERT whose states this model reads cannot be used: "
            f"{error.message}",
            f"restore this folder from a copy of the run; or, where {config.features.run} still "
            "is, run `mtrain train` with the run's configuration again, which copies it",
        ) from None


def keep_features(features: BertFeatures, run: RunFolder) -> None:
    """Copy the BERT into a run as a run folder of its own, unless it is there.

    Raises `UserError` if another folder has its name.
    """
    folder = run.features
    if folder.is_dir() and folder.samefile(features.run.path):
        return
    if folder.exists() and not (folder / "config.yaml").is_file() and any(folder.iterdir()):
        raise UserError(
            f"{folder}: this folder is not mtrain's, and the run needs one of this name",
            "rename it, or give this configuration another run_dir",
        )
    writing = RunFolder(run.path / ".features.writing")
    shutil.rmtree(writing.path, ignore_errors=True)  # of a killed training
    shutil.copytree(features.run.path / "tokenizer", writing.path / "tokenizer")
    shutil.copyfile(features.run.config_path, writing.config_path)
    writing.checkpoints.mkdir()
    whole = load_checkpoint(features.checkpoint, with_training=False)
    save_checkpoint(writing.checkpoints, whole.path.name, whole.weights, {}, whole.state)
    make_readable(writing.path)
    if folder.exists():
        shutil.rmtree(folder)
    writing.path.rename(folder)


def bytes_to_copy(features: BertFeatures, run: RunFolder) -> int:
    """Return the size of the weights that `keep_features` will copy."""
    return 0 if run.features.is_dir() else (features.checkpoint / MODEL).stat().st_size


def _copies(config: Config) -> list[Path]:
    """Return where a copy of the BERT may be: in the run, and in the run that it starts from."""
    runs = [config.run_dir, *([config.model.base.run] if config.model.base else [])]
    return [RunFolder(run).features for run in runs]


def _open(folder: Path, config: Config) -> BertFeatures:
    try:
        return open_features(folder, config)
    except UserError as error:
        is_named = error.message.startswith("model.features")
        raise UserError(error.message if is_named else f"{KEY}: {error.message}", error.hint,
                        error.exit_code) from None  # fmt: skip
