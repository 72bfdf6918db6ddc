"""What each way to prepare data begins and ends with: looking at the inputs, placing the folder."""

import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtrain.config import Config
from mtrain.console import say
from mtrain.data.builder import DataBuilder
from mtrain.data.ceiling import measure_ceilings
from mtrain.data.folders import DataFolder, RunFolder, hold
from mtrain.data.held_out import Part
from mtrain.data.held_out_sets import HeldOutSets
from mtrain.data.identity import describe_inputs, same_inputs
from mtrain.data.manifest import FORMAT, NAME, data_settings
from mtrain.errors import UserError
from mtrain.text.languages import find_language, require_language
from mtrain.text.lines import make_readable, write_whole
from mtrain.text.protection import Protection
from mtrain.text.tokenizer import TokenizerPair

if TYPE_CHECKING:
    from mtrain.inference.features import BertFeatures
    from mtrain.inference.teacher import TokenTeacher

Fill = Callable[[DataBuilder], tuple[dict[str, Any], HeldOutSets]]


@dataclass(frozen=True)
class _FrozenModels:
    """Trained models that compute columns of the data."""

    features: "BertFeatures | None"
    teacher: "TokenTeacher | None"

    def identities(self) -> dict[str, str]:
        """Return what the manifest compares of each model."""
        models = {"features_model": self.features, "teacher_model": self.teacher}
        return {key: model.identity for key, model in models.items() if model is not None}

    def add_columns(self, config: Config, folder: Path, manifest: dict[str, Any]) -> None:
        """Add their columns to a data folder under way, and complete its manifest."""
        started = time.monotonic()
        if self.features is not None:
            from mtrain.inference.prepared_features import add_features  # loads torch

            add_features(folder, manifest, self.features)
        if self.teacher is not None and config.kept_top_k is not None:
            from mtrain.inference.prepared_teacher import add_teacher  # loads torch

            add_teacher(folder, manifest, self.teacher, config.kept_top_k)
        manifest["seconds"] = round(manifest["seconds"] + time.monotonic() - started, 1)


@dataclass(frozen=True)
class Preparation:
    """A data folder that is to be made, or that is there already."""

    config: Config
    folder: DataFolder
    inputs: dict[str, Any]  # see `describe_inputs`
    prepared: dict[str, Any] | None  # the manifest, if nothing has changed since
    _frozen: _FrozenModels

    @staticmethod
    def of(config: Config) -> "Preparation":
        """Look at the inputs and at what is there. Raises UserError for what cannot be used."""
        folder, run = DataFolder(config.data_path), RunFolder(config.run_dir)
        if not folder.manifest_path.is_file():
            run.check_belongs(config)
        frozen = _FrozenModels(_features(config), _teacher(config, folder))
        inputs = describe_inputs(config) | frozen.identities()
        _check_vocabulary(config)
        if config.kept_top_k is not None and frozen.teacher is None:
            inputs["teacher_model"] = folder.manifest()["teacher_model"]
        if folder.manifest_path.is_file():
            manifest, meant = folder.manifest(), folder.as_prepared(config)
            present = inputs | {"settings": data_settings(meant)}
            is_unchanged = same_inputs(manifest, present)
            run.check_belongs(meant if is_unchanged else config)
            if is_unchanged:
                is_moved = manifest["settings"] != present["settings"]
                if is_moved and manifest["format"] == FORMAT:  # saves `train` the comparison
                    _write_manifest(folder.path, manifest | present)
                say(f"{folder.path}: nothing changed, nothing to do")
                return Preparation(config, folder, inputs, manifest, frozen)
        elif folder.path.exists() and any(folder.path.iterdir()):
            raise UserError(
                f"{folder.path}: this folder exists and is not mtrain's",
                "choose another data_dir (or run_dir), or remove the folder",
            )
        for code in sorted(set(chain(*map(config.data.languages_of, config.data.corpora)))):
            find_language(code)  # reports a mistyped code now, not at the first score
            if any(map(config.tokenizer.names, ("source", "target"))):
                require_language(code, "the prefixes of the tokenizer name languages")
        if config.kept_top_k is not None and frozen.teacher is None:
            frozen = replace(frozen, teacher=_open_teacher(config))  # an error says what is gone
        return Preparation(config, folder, inputs, None, frozen)

    @property
    def destination(self) -> Path:
        """The data folder, which may be a symbolic link to another disk."""
        return self.folder.path.resolve()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the data folder. Raises UserError if another process does."""
        lock_path = self.destination.with_name(f".{self.destination.name}.lock")
        with hold(lock_path, f"{self.folder.path}: another `mtrain prepare` is at work here"):
            yield

    def build(self, fill: Fill) -> dict[str, Any]:
        """Build the folder next to its destination, move it there, and return its manifest."""
        destination = self.destination
        prefix = f".{destination.name}.building-"
        for leftover in destination.parent.glob(f"{prefix}*"):  # of a killed builder
            shutil.rmtree(leftover, ignore_errors=True)
        building = destination.parent / f"{prefix}{secrets.token_hex(4)}"
        try:  # from before the folder exists: a signal may come as soon as it does
            building.mkdir(mode=0o700)
            manifest, sets = fill(DataBuilder(self.config, building))
            if not self.config.learns_from_text:
                manifest["ceilings"] = _measure_ceilings(self.config, building, sets.parts)
            self._frozen.add_columns(self.config, building, manifest)
            _write_manifest(building, manifest)
            make_readable(building)
            _put_in_place(building, destination)
        except BaseException as error:
            shutil.rmtree(building, ignore_errors=True)
            if isinstance(error, OSError) and error.filename is None:  # write errors name no file
                error.filename = str(destination)
            raise
        return manifest


def _features(config: Config) -> "BertFeatures | None":
    """Load the BERT whose states the model reads, if it reads any."""
    if config.features is None:
        return None
    from mtrain.inference.features import (
        features_to_prepare,  # loads torch, which others never need
    )

    return features_to_prepare(config)


def _teacher(config: Config, folder: DataFolder) -> "TokenTeacher | None":
    """Load the teacher whose distributions the data have, if they have any.

    Return None as well if it is gone, or one of several is, and the prepared data have the
    distributions of some teacher.
    """
    if config.kept_top_k is None or config.distillation is None:
        return None
    is_prepared = folder.manifest_path.is_file() and "teacher_model" in folder.manifest()
    if is_prepared and not all(path.exists() for path in config.distillation.teachers):
        return None
    return _open_teacher(config)


def _check_vocabulary(config: Config) -> None:
    """Raise UserError if the data are to have distributions of another vocabulary."""
    if config.kept_top_k is not None:
        from mtrain.inference.student_vocabulary import check_student_vocabulary  # loads torch

        check_student_vocabulary(config)


def _open_teacher(config: Config) -> "TokenTeacher":
    from mtrain.inference.teacher import token_teacher  # loads torch

    return token_teacher(config)


def _measure_ceilings(
    config: Config, folder: Path, parts: Mapping[str, Sequence[Part]]
) -> dict[str, Any]:
    """Measure how much of the held-out sets the target tokenizer cannot write."""

    def scores(
        hypotheses: Sequence[str], references: Sequence[str], target_lang: str
    ) -> tuple[float, float]:
        from mtrain.evaluation.metrics import bleu_and_chrf  # sacreBLEU, which is rarely needed

        return bleu_and_chrf(hypotheses, references, target_lang)

    tokenizer = TokenizerPair.load(folder / "tokenizer").target
    protection = Protection.of(config.data.protect)
    return measure_ceilings(folder / "text", parts, tokenizer, scores, protection)


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    with write_whole(folder / NAME) as file:
        file.write(json.dumps(manifest, ensure_ascii=False, indent=1).encode())


def _put_in_place(building: Path, destination: Path) -> None:
    """Rename the new folder into place; move an old one out of the way first, then remove it."""
    if destination.exists():
        outdated = building.with_name(f"{building.name}-outdated")
        os.replace(destination, outdated)
        os.replace(building, destination)
        shutil.rmtree(outdated)
    else:
        os.replace(building, destination)
