"""The two folders of a run: `prepare` writes the data folder, `train` the run folder.

Handles file names and manifests; does not import torch. A data folder gets its name once complete.
"""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mtrain.config.compare import (
    CHANGEABLE_ON_RESUME,
    Differences,
    changed_keys,
    describe,
    differences,
    only_moved,
)
from mtrain.config.corpora import Languages
from mtrain.config.load import dump_config, load_config
from mtrain.config.run import Config
from mtrain.data.held_out import Part
from mtrain.data.held_out_text import HeldOutText, read_held_out, with_documents
from mtrain.data.identity import input_contents, same_contents
from mtrain.data.manifest import NAME, data_settings, read_manifest, with_old_defaults
from mtrain.data.store import TokenStore, check_files
from mtrain.errors import UserError
from mtrain.text.filters import KEPT, REASONS
from mtrain.text.lines import write_whole
from mtrain.text.tokenizer import TokenizerPair

RUN_MARK = b"# written by mtrain train: the whole configuration, every default spelled out\n"


@dataclass(frozen=True)
class DataFolder:
    """A data folder: tokenizer/, train/, valid/ and watch-NAME/ (tokens), text/, manifest.json."""

    path: Path

    @property
    def manifest_path(self) -> Path:
        """The manifest, which `prepare` writes last."""
        return self.path / NAME

    def manifest(self) -> dict[str, Any]:
        """Read the manifest. Raises UserError if it is missing, damaged or of an unknown format."""
        return read_manifest(self.path)

    def tokenizers(self) -> TokenizerPair:
        """Load the tokenizers. Raises UserError if the data were prepared with others."""
        tokenizers = TokenizerPair.load(self.path / "tokenizer")
        if tokenizers.digest() != self.manifest()["tokenizers"]:
            raise UserError(
                f"{self.path / 'tokenizer'}: not the tokenizer that these data were prepared with",
                f"remove {self.path} and run `mtrain prepare` again",
            )
        return tokenizers

    def store(self, split: str) -> TokenStore:
        """Open the token store of a split after checking its SHA-256 digests."""
        about, folder = self.manifest()["splits"][split], self.path / split
        check_files(folder, about.get("sha256", {}))  # old manifests have none
        columns, vocab_size = about["columns"], about["vocab_size"]
        return TokenStore(folder, columns, vocab_size, about["fingerprint"])

    def parts(self, split: str, config: Config) -> list[tuple[Part, int]]:
        """Return the parts of a held-out set, each with its number of pairs in the token store."""
        about = self.manifest()["splits"][split]
        if "parts" in about:
            return [
                (Part(part["corpus"], (part["source_lang"], part["target_lang"]), part["lines"],
                      part.get("is_text", False)), part["pairs"])
                for part in about["parts"]
            ]  # fmt: skip
        lines = about["pairs"] + about["left_out_of_loss"]  # prepared by an earlier version
        return [(Part(split, config.data.directions[0], lines), about["pairs"])]

    def held_out_by_direction(self, split: str, config: Config) -> dict[Languages, HeldOutText]:
        """Return the text of a held-out set, split by its directions."""
        text, line = read_held_out(self.path / "text", split), 0
        found: dict[Languages, HeldOutText] = {}
        for part, _ in self.parts(split, config):
            chosen = slice(line, line + part.lines)
            of_direction = found.setdefault(part.languages, HeldOutText(split, [], []))
            of_direction.sources.extend(text.sources[chosen])
            of_direction.references.extend(text.references[chosen])
            line += part.lines
        return found

    def corpus_sizes(self) -> list[int]:
        """Return the number of training pairs of each corpus, in the order of the token store.

        A chunk of a document is one pair there.
        """
        manifest = self.manifest()
        ledgers = manifest["filtered"]
        chunks = manifest.get("chunks", [None] * len(ledgers))
        return [
            sum(joined["chunks"].values()) if joined else ledger["counts"][REASONS[KEPT]]
            for ledger, joined in zip(ledgers, chunks, strict=True)
        ]

    def as_prepared(self, config: Config) -> Config:
        """Return the configuration with the defaults of this folder's manifest format."""
        return with_old_defaults(config, self.manifest())

    def check_belongs(self, config: Config) -> None:
        """Raise UserError if the data were prepared with other settings or from other files.

        Files that have moved are read again and compared by content.
        """
        changed = differences(self.manifest()["settings"], data_settings(config))
        if changed and not (only_moved(changed) and self.holds_content_of(config)):
            raise UserError(
                f"{self.path}: prepared with other `data` or `tokenizer` settings than these:"
                + describe(changed),
                "run `mtrain prepare` with this configuration again, or give it another run_dir",
            )

    def holds_content_of(self, config: Config, only_steering: bool = False) -> bool:
        """Return whether the configuration's files have the prepared content, at any path.

        With `only_steering`, compare train and valid only. Raises UserError for a missing file.
        """
        manifest = self.manifest()
        corpora = config.steering_corpora if only_steering else config.corpora
        try:
            present = input_contents(config, corpora)
        except FileNotFoundError as error:
            raise UserError(
                f"{error.filename}: there is no such file (looked in {Path.cwd()})",
                f"{self.path} was prepared from files at other places: name those, or put it there",
            ) from None
        if only_steering:  # their files come first
            manifest["inputs"] = manifest["inputs"][: len(present["inputs"])]
        return same_contents(manifest, present)


@dataclass(frozen=True)
class RunFolder:
    """A run: config.yaml, tokenizer/, test/, checkpoints/, metrics.jsonl; enough to translate.

    A model that reads features of a BERT has that BERT's run in features/. For the report.html
    there are data.json, the manifest of the prepared data, and valid.json, the translations of
    valid by the best checkpoint.
    """

    path: Path
    checkpoint_name: str | None = None  # by which it was named, in place of the best

    @property
    def config_path(self) -> Path:
        """The configuration with all defaults; a folder that has this file is a run."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoint folders."""
        return self.path / "checkpoints"

    @property
    def metrics_path(self) -> Path:
        """The training events, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def report_path(self) -> Path:
        """The page that tells of the run."""
        return self.path / "report.html"

    @property
    def valid_path(self) -> Path:
        """The texts of valid, as the best checkpoint translates them."""
        return self.path / "valid.json"

    @property
    def manifest_path(self) -> Path:
        """The copy of the data folder's manifest."""
        return self.path / "data.json"

    @property
    def features(self) -> Path:
        """The copy of the run of the BERT whose states the model reads."""
        return self.path / "features"

    @property
    def tests(self) -> Path:
        """The folder of raw test sets."""
        return self.path / "test"

    @staticmethod
    def open(path: Path) -> "RunFolder":
        """Return an existing run, which one of its checkpoint folders may name.

        Raises UserError if `path` is neither.
        """
        run = RunFolder(path)
        if path.is_dir() and path.parent.name == run.checkpoints.name:
            named = RunFolder(path.parents[1], path.name)
            run = named if named.config_path.is_file() else run
        if path.is_file():
            raise UserError(f"{path}: this is a file, the folder of a run was expected")
        if not path.is_dir():
            raise UserError(f"{path}: there is no such run folder (looked in {Path.cwd()})")
        if not run.config_path.is_file():
            raise UserError(
                f"{path}: this folder is no run: it has no config.yaml",
                "give the run_dir of a configuration that `mtrain train` has been run with",
            )
        return run

    def config(self, overrides: tuple[str, ...] = ()) -> Config:
        """Read the configuration; its run_dir is the folder's present path."""
        config = load_config(self.config_path, overrides, is_of_run=True)
        return config.model_copy(update={"run_dir": self.path})

    def check_belongs(self, config: Config) -> None:
        """Raise UserError if the configuration differs in a key that must not change on resume.

        Also raises it if files that mtrain did not write are where a run's files would go.
        """
        taken = [name for name in ("tokenizer", "test", "checkpoints", "metrics.jsonl",
                                   "data.json", "valid.json", "report.html")
                 if _holds_something(self.path / name)]  # fmt: skip
        if not self.config_path.is_file():  # a run writes it before those
            if taken:
                raise UserError(
                    f"{self.path}: this folder is no run, but there are already: "
                    + ", ".join(taken),
                    "give this configuration a run_dir of its own; nothing was changed",
                )
            return
        if not self.config_path.read_bytes().startswith(RUN_MARK):
            raise UserError(
                f"{self.config_path}: not written by `mtrain train`, which would overwrite it",
                "give this configuration a run_dir of its own, or rename the file",
            )
        present = load_config(self.config_path, is_of_run=True)
        changed = changed_keys(present, config, CHANGEABLE_ON_RESUME)
        if changed and not _is_moved(changed, config):
            hint = "give this configuration a run_dir of its own, or take the changes back"
            if config.distillation is not None and not config.distillation.teachers:
                hint = "a student continues with `mtrain distill`, which names its teachers"
            raise UserError(
                f"{self.path} belongs to another configuration:" + describe(changed), hint
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run, so that only one `train` uses it at a time."""
        with hold(self.path / ".lock", f"{self.path}: another `mtrain train` is at work here"):
            yield

    def begin_empty(self, config: Config) -> None:
        """Create or update the folder with the configuration alone."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        with write_whole(self.config_path) as file:
            file.write(RUN_MARK + dump_config(config).encode())

    def begin(self, config: Config, data: DataFolder) -> None:
        """Create or update the folder: the config first, then tokenizer and test sets."""
        self.begin_empty(config)
        _copy_file(data.manifest_path, self.manifest_path)
        _copy_files(sorted((data.path / "tokenizer").iterdir()), self.path / "tokenizer")
        tests = [f"{name}.{side}" for name in data.manifest()["tests"]
                 for side in ("source", "target")]  # fmt: skip
        tests += [f"{name}.documents" for name in config.data.tests_with_documents]
        _copy_files([data.path / "text" / name for name in tests], self.tests)

    def tokenizers(self) -> TokenizerPair:
        """Read the tokenizers."""
        return TokenizerPair.load(self.path / "tokenizer")

    def test_sets(self, config: Config) -> list[HeldOutText]:
        """Read the test sets that the run's configuration names, with the documents of some."""
        texts = [read_held_out(self.tests, name) for name in sorted(config.data.test_languages)]
        documented = config.data.tests_with_documents
        return [with_documents(text, self.tests) if text.name in documented else text
                for text in texts]  # fmt: skip


OpenedRun = tuple[RunFolder, Config]  # the configuration has overrides applied


def open_alike(config: Config, paths: Sequence[Path]) -> list[OpenedRun]:
    """Open runs for the device of a configuration and for the precision that it decodes in.

    Raises `UserError` if a folder is not a run.
    """
    alike = f"device={config.device}", f"decoding.precision={config.decoding.precision}"
    runs = map(RunFolder.open, paths)
    return [(run, run.config(alike)) for run in runs]


@contextmanager
def hold(lock_path: Path, refusal: str) -> Iterator[None]:
    """Hold a file lock; it ends with its process. Raises UserError if it is already held."""
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("a") as file:
        lock(file, refusal)
        yield


def lock(file: IO[Any], refusal: str) -> None:
    """Lock a file until it is closed or its process ends. Raises UserError if it is locked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(refusal) from None


def _is_moved(changed: Differences, config: Config) -> bool:
    """Return whether only paths changed and the files there have the prepared content.

    Without prepared data, only paths are compared: training later compares newly prepared data
    with its checkpoints.
    """
    data = DataFolder(config.data_path)
    return only_moved(changed) and (
        not data.manifest_path.is_file() or data.holds_content_of(config, only_steering=True)
    )


def _holds_something(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _copy_files(files: Sequence[Path], folder: Path) -> None:
    """Copy files into a folder; other files in it stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        _copy_file(path, folder / path.name)


def _copy_file(path: Path, destination: Path) -> None:
    with write_whole(destination) as copy, path.open("rb") as original:
        shutil.copyfileobj(original, copy)
