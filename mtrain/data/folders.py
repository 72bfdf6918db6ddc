"""The two folders of a run: the data folder that `prepare` writes, the run folder of `train`.

Knows names and manifests; no torch. A data folder appears under its name only when complete.
"""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrain.config.compare import Differences, changed_keys, describe, differences, only_moved
from mtrain.config.decoding import DecodingConfig
from mtrain.config.load import dump_config, load_config
from mtrain.config.run import Config
from mtrain.data.identity import input_contents, same_contents
from mtrain.data.manifest import NAME, data_settings, read_manifest, with_old_defaults
from mtrain.data.store import TokenStore, check_files
from mtrain.errors import UserError
from mtrain.text.lines import read_lines, write_whole
from mtrain.text.tokenizer import TokenizerPair

RUN_MARK = b"# written by mtrain train: the whole configuration, every default spelled out\n"

# What may change when a run goes on: how long, how it is watched and kept, where it computes.
# Everything else decides what is learnt, and belongs to another run.
CHANGEABLE_ON_RESUME = (
    "run_dir",
    "data_dir",
    "device",
    *(f"decoding.{key}" for key in DecodingConfig.model_fields if not key.startswith("alignment_")),
    "training.compile_layers",
    "training.max_updates",
    "training.max_minutes",
    "training.valid_every",
    "training.save_every",
    "training.valid_metric",
    "training.patience",
    "training.keep_best",
    "training.keep_last",
    "training.average_checkpoints",
    "training.log_every",
    "training.tensorboard",
    "data.test",
)


@dataclass(frozen=True)
class HeldOutText:
    """A valid or test set as it was given, line by line."""

    name: str
    sources: list[bytes]
    references: list[bytes]


def read_held_out(folder: Path, name: str) -> HeldOutText:
    """Read NAME.source and NAME.target from a folder; refuse them if they are not in step."""
    paths = [folder / f"{name}.{side}" for side in ("source", "target")]
    sources, references = (list(read_lines(path)) for path in paths)
    if len(sources) != len(references):
        raise UserError(
            f"{paths[0]} has {len(sources)} lines but {paths[1]} has {len(references)}",
            "restore both from the original folder",
        )
    return HeldOutText(name, sources, references)


@dataclass(frozen=True)
class DataFolder:
    """tokenizer/, train/, valid/ (tokens), text/ (valid and test as given), manifest.json."""

    path: Path

    @property
    def manifest_path(self) -> Path:
        """Where `prepare` says last what is in the folder."""
        return self.path / NAME

    def manifest(self) -> dict[str, Any]:
        """Return what `prepare` wrote about the folder, or refuse the folder."""
        return read_manifest(self.path)

    def tokenizers(self) -> TokenizerPair:
        """Read the tokenizers, if they are those that the tokens are of."""
        tokenizers = TokenizerPair.load(self.path / "tokenizer")
        if tokenizers.digest() != self.manifest()["tokenizers"]:
            raise UserError(
                f"{self.path / 'tokenizer'}: not the tokenizer that these data were prepared with",
                f"remove {self.path} and run `mtrain prepare` again",
            )
        return tokenizers

    def store(self, split: str) -> TokenStore:
        """Open the tokens of train or valid, every byte of them checked."""
        about, folder = self.manifest()["splits"][split], self.path / split
        check_files(folder, about.get("sha256", {}))  # there once were no digests
        columns, vocab_size = about["columns"], about["vocab_size"]
        return TokenStore(folder, columns, vocab_size, about["fingerprint"])

    def as_prepared(self, config: Config) -> Config:
        """Return a configuration as it was meant when this folder was prepared."""
        return with_old_defaults(config, self.manifest())

    def check_belongs(self, config: Config) -> None:
        """Refuse to train on data that were prepared with other settings or from other files.

        Files that have moved are read again and compared by their content.
        """
        changed = differences(self.manifest()["settings"], data_settings(config))
        if changed and not (only_moved(changed) and self.holds_content_of(config)):
            raise UserError(
                f"{self.path}: prepared with other `data` or `tokenizer` settings than these:"
                + describe(changed),
                "run `mtrain prepare` with this configuration again, or give it another run_dir",
            )

    def holds_content_of(self, config: Config, includes_test: bool = True) -> bool:
        """Tell whether the files of a configuration hold what was prepared, wherever they lie.

        Raises UserError for a file that is not there.
        """
        manifest, data = self.manifest(), config.data
        corpora = [*data.train, *data.valid, *(data.test if includes_test else ())]
        try:
            present = input_contents(config, corpora)
        except FileNotFoundError as error:
            raise UserError(
                f"{error.filename}: there is no such file (looked in {Path.cwd()})",
                f"{self.path} was prepared from files at other places: name those, or put it there",
            ) from None
        if not includes_test:  # whose files come last
            manifest["inputs"] = manifest["inputs"][: len(present["inputs"])]
        return same_contents(manifest, present)


@dataclass(frozen=True)
class RunFolder:
    """config.yaml, tokenizer/, test/, checkpoints/, metrics.jsonl: all that translating needs."""

    path: Path

    @property
    def config_path(self) -> Path:
        """The configuration, every default spelled out; what makes a folder a run."""
        return self.path / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoint folders."""
        return self.path / "checkpoints"

    @property
    def metrics_path(self) -> Path:
        """The events of training, a JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def tests(self) -> Path:
        """The folder of test sets, as they were given."""
        return self.path / "test"

    @staticmethod
    def open(path: Path) -> "RunFolder":
        """Return an existing run, or say that `path` is none."""
        run = RunFolder(path)
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
        """Read the configuration; the run folder is where it lies now."""
        config = load_config(self.config_path, overrides)
        return config.model_copy(update={"run_dir": self.path})

    def check_belongs(self, config: Config) -> None:
        """Refuse a configuration that would change what this run has learnt from or with.

        A folder with files of someone else's where ours would go is refused, too.
        """
        taken = [name for name in ("tokenizer", "test", "checkpoints", "metrics.jsonl")
                 if _holds_something(self.path / name)]  # fmt: skip
        if not self.config_path.is_file():  # which we write before those
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
        changed = changed_keys(load_config(self.config_path), config, CHANGEABLE_ON_RESUME)
        if changed and not _is_moved(changed, config):
            raise UserError(
                f"{self.path} belongs to another configuration:" + describe(changed),
                "give this configuration a run_dir of its own, or take the changes back",
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for one `train` at a time."""
        with hold(self.path / ".lock", f"{self.path}: another `mtrain train` is at work here"):
            yield

    def begin(self, config: Config, data: DataFolder) -> None:
        """Make the folder, or bring it up to date: the config first, tokenizer, test sets."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        with write_whole(self.config_path) as file:
            file.write(RUN_MARK + dump_config(config).encode())
        _copy_files(sorted((data.path / "tokenizer").iterdir()), self.path / "tokenizer")
        tests = [data.path / "text" / f"{name}.{side}" for name in data.manifest()["tests"]
                 for side in ("source", "target")]  # fmt: skip
        _copy_files(tests, self.tests)

    def tokenizers(self) -> TokenizerPair:
        """Read the tokenizers."""
        return TokenizerPair.load(self.path / "tokenizer")

    def test_sets(self, config: Config) -> list[HeldOutText]:
        """Read the test sets that the run's configuration names."""
        names = sorted(corpus.name or "test" for corpus in config.data.test)
        return [read_held_out(self.tests, name) for name in names]


OpenedRun = tuple[RunFolder, Config]  # with its configuration, in which some may be overridden


@contextmanager
def hold(lock_path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock that a killed process lets go of by itself; refuse if another holds it."""
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with lock_path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(refusal) from None
        yield


def _is_moved(changed: Differences, config: Config) -> bool:
    """Tell whether only places changed, and the files there hold what was prepared.

    Without prepared data nothing is at stake: training compares what will be prepared with its
    checkpoints.
    """
    data = DataFolder(config.data_path)
    return only_moved(changed) and (
        not data.manifest_path.is_file() or data.holds_content_of(config, includes_test=False)
    )


def _holds_something(path: Path) -> bool:
    return any(path.iterdir()) if path.is_dir() else path.exists()


def _copy_files(files: Sequence[Path], folder: Path) -> None:
    """Put copies of files into a folder; whatever else is in there stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        with write_whole(folder / path.name) as copy, path.open("rb") as original:
            shutil.copyfileobj(original, copy)
