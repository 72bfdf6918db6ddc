"""What `mtrain report` and `mtrain compare` read of a run: its log, best checkpoint, data, valid.

Loads no model, except to translate valid where its translations are not kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

from mtrain.checkpoints.collection import list_checkpoints, order_by_quality
from mtrain.checkpoints.format import DamagedCheckpoint, read_state, weights_digest
from mtrain.commands.score import score_run
from mtrain.commands.score_gate import DEFAULT_P, Gate
from mtrain.config import Config
from mtrain.console import progress, warn
from mtrain.data.folders import DataFolder, OpenedRun, RunFolder
from mtrain.data.manifest import read_manifest
from mtrain.errors import UserError
from mtrain.evaluation.kept import KeptTranslations, read_kept
from mtrain.evaluation.measures import Measures
from mtrain.evaluation.scored import ScoredSet, SetTexts
from mtrain.text.lines import decode_lines
from mtrain.training.log import read_metrics

if TYPE_CHECKING:
    from pathlib import Path

    from mtrain.inference.load import LoadedRun

VALID = "valid"


@dataclass(frozen=True)
class RunFacts:
    """A run as its folder tells of it."""

    run: RunFolder
    config: Config

    @staticmethod
    def of(opened: OpenedRun) -> "RunFacts":
        """Return the facts of an opened run."""
        return RunFacts(*opened)

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return self.run.path.resolve().name

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """The events of the training, none if the log is gone."""
        return read_metrics(self.run.metrics_path)

    @cached_property
    def validations(self) -> list[dict[str, Any]]:
        """The events of validations, in order."""
        return [event for event in self.events if event["kind"] == "valid"]

    @cached_property
    def best(self) -> "Path | None":
        """The best checkpoint, which translates by default; None if there is no whole one."""
        paths = list_checkpoints(self.run.checkpoints)
        ordered = order_by_quality(paths, self.config.training.valid_metric)
        return ordered[-1] if ordered else None

    @cached_property
    def state(self) -> dict[str, Any]:
        """The state of the best checkpoint; empty if it cannot be read."""
        try:
            return read_state(self.best) if self.best else {}
        except DamagedCheckpoint:  # `best` has warned
            return {}

    @property
    def validation(self) -> dict[str, Any]:
        """The figures of the best checkpoint's validation; empty without one."""
        return self.state.get("validation") or {}

    @property
    def best_update(self) -> int | None:
        """The update of the best checkpoint."""
        update = self.state.get("position", {}).get("update")
        return None if update is None else int(update)

    @cached_property
    def manifest(self) -> dict[str, Any] | None:
        """The manifest of the data that the run was trained on; None if it is gone.

        That is the run's copy, or the one in the data folder if that holds the same data still.
        """
        if self.run.manifest_path.is_file():
            try:
                return read_manifest(self.run.path, self.run.manifest_path.name)
            except UserError as error:
                warn(f"{error.message}, so it is not read")
        return self.data.manifest() if self._has_its_data() else None

    @property
    def data(self) -> DataFolder:
        """The data folder, which may be gone, or hold other data by now."""
        return DataFolder(self.config.data_path)

    def _has_its_data(self) -> bool:
        """Return whether the data folder is there, with what the run was trained on."""
        if not self.data.manifest_path.is_file():
            return False
        prepared = self.data.manifest()["splits"]["train"]["fingerprint"]
        return bool(prepared == self.state.get("identity", {}).get("store"))

    def valid_texts(self, load: "Callable[[], LoadedRun]") -> list[SetTexts]:
        """Return valid by direction, translated by the best checkpoint: as kept, or now.

        Empty for a model that does not translate, and where the texts are gone.
        """
        if self.config.learns_from_text:
            return []
        if self._kept is not None and self._is_of_best(self._kept):
            return list(self._kept.texts)
        texts = self.valid_untranslated()
        return translate(load(), texts) if texts else []

    def valid_untranslated(self) -> list[SetTexts]:
        """Return valid by direction; its hypotheses, if any, may be another checkpoint's."""
        return list(self._kept.texts) if self._kept is not None else self._prepared_valid()

    @cached_property
    def _kept(self) -> KeptTranslations | None:
        return read_kept(self.run.valid_path, VALID)

    def _is_of_best(self, kept: KeptTranslations) -> bool:
        """Return whether translations are the best checkpoint's, by the search asked for."""
        if self.best is None or kept.checkpoint != self.best.name:
            return False
        is_same_search = kept.decoding == self.config.decoding.model_dump(mode="json")
        return is_same_search and kept.weights == weights_digest(self.best)

    def _prepared_valid(self) -> list[SetTexts]:
        """Return valid from the data folder, by direction and not translated; empty if gone."""
        if not self._has_its_data() or not (self.data.path / "text" / f"{VALID}.source").is_file():
            return []
        return [
            SetTexts(VALID, languages, decode_lines(text.sources), [decode_lines(text.references)])
            for languages, text in self.data.held_out_by_direction(VALID, self.config).items()
        ]


def translate(loaded: "LoadedRun", texts: Sequence[SetTexts]) -> list[SetTexts]:
    """Return sets with what a model translates their sources to."""
    translated = []
    for each in texts:
        sources = [source.encode() for source in each.sources or ()]
        with progress(f"translating {each.name} {each.direction}", len(sources), "lines") as shown:
            found = loaded.translator(each.languages).translate(sources, shown.advance)
        translated.append(replace(each, hypotheses=[translation.text for translation in found]))
    return translated


def score_tests_of(facts: RunFacts, overrides: Sequence[str] | None) -> list[ScoredSet]:
    """Translate and score a run's test sets, as `mtrain score` does.

    Raises UserError if it has none.
    """
    return score_run(
        facts.run.path,
        overrides,
        others=None,
        checkpoint_name=None,
        gate=Gate(None, None, 0.0, DEFAULT_P),
        is_saved=False,
        suite_path=None,
        measures=Measures(),
    ).sets


def describe_languages(config: Config) -> str:
    """Return the languages of a run: as en to de, several directions one after another."""
    if config.learns_from_text:
        return ", ".join(dict.fromkeys(filter(None, chain(*config.data.directions)))) or "any"
    return ", ".join(" to ".join(direction) for direction in dict.fromkeys(config.data.directions))
