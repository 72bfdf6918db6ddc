"""Shared by all tests: the command line as a user runs it, and a small task that trains fast.

The task is to write digits as words in reverse order: "3 1 2" -> "two one three". As in
translation, order and vocabulary differ between the sides. A model learns it in seconds.
"""

import fcntl
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

STREAMS = ("stdin", "stdout", "stderr")


CPU_INFO = Path("/proc/cpuinfo")
if CPU_INFO.exists() and "vnni" not in CPU_INFO.read_text():
    os.environ.setdefault("CT2_USE_MKL", "1")  # else eight bits are less exact there

# They begin first, the longest at the head: a long file that began last would leave a core idle.
# While one process trains the run that the first of them and others use, the next does without.
LONGEST = [
    *("cli/test_line_fidelity.py", "cli/test_resume.py", "contract/test_models.py"),
    *("unit/scripts/test_bench.py", "cli/test_prepare.py", "cli/test_import.py"),
    *("cli/test_attention.py", "cli/test_distill.py", "cli/test_bad_input.py"),
    *("cli/test_pipeline.py", "cli/test_readme.py", "contract/test_import.py"),
    *("cli/test_damage.py", "cli/test_fine_tuning.py", "cli/test_multilingual.py"),
    *("cli/test_bert_exchange.py", "cli/test_distillation_words.py", "cli/test_export.py"),
    *("cli/test_streams.py", "cli/test_translate_documents.py", "unit/training/test_trainer.py"),
    *("cli/test_protect.py", "cli/test_scale.py", "cli/test_torchrun.py", "cli/test_cluster.py"),
    *("cli/test_prepare_shards.py", "unit/distributed/test_learning.py", "cli/test_shards.py"),
    *("cli/test_peers.py", "unit/training/test_saving.py"),
    *("cli/test_kill.py", "cli/test_translate_resume.py", "cli/test_backtranslate.py"),
    *("cli/test_init.py", "cli/test_mixture.py"),
]


def pytest_configure(config: pytest.Config) -> None:
    """Let several processes take the files in the order below, not by their number of tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first where several processes share the tests."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a parameter of bytes after its argument: compressed bytes contain the time.

    All test processes must collect tests of the same names.
    """
    return argname if isinstance(val, bytes) else None


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs `mtrain` in a process of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, *arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
        """Start a command and return the process."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        given = {"cwd": self.folder, "env": environment, **dict.fromkeys(STREAMS, subprocess.PIPE)}
        command = [sys.executable, "-m", "mtrain", *map(str, arguments)]
        return subprocess.Popen(command, **(given | options))

    def __call__(self, *arguments: object, stdin: bytes = b"", timeout: float = 120) -> Finished:
        """Run a command to its end."""
        process = self.start(*arguments)
        out, err = process.communicate(stdin, timeout=timeout)
        return Finished(process.returncode, out.decode("utf-8", "replace"), err.decode())


@pytest.fixture
def mtrain(tmp_path: Path) -> CommandLine:
    """The command line, in an empty folder."""
    return CommandLine(tmp_path)


def write_task(folder: Path, sizes: dict[str, int], seed: int = 1) -> None:
    """Write SPLIT.digits and SPLIT.words for each split; no pair is in two of them."""
    generator = random.Random(seed)
    seen: set[tuple[int, ...]] = set()
    for split, size in sizes.items():
        pairs = []
        while len(pairs) < size:
            digits = tuple(generator.randrange(10) for _ in range(generator.randint(2, 6)))
            if digits not in seen:
                seen.add(digits)
                pairs.append(digits)
        sources = [" ".join(map(str, digits)) for digits in pairs]
        targets = [" ".join(WORDS[digit] for digit in reversed(digits)) for digits in pairs]
        (folder / f"{split}.digits").write_text("\n".join(sources) + "\n")
        (folder / f"{split}.words").write_text("\n".join(targets) + "\n")


TINY_CONFIG = """\
run_dir: run
data:
  source_lang: digits
  target_lang: words
  train: [{source: train.digits, target: train.words}]
  valid: [{source: valid.digits, target: valid.words}]
  test: [{name: held-out, source: test.digits, target: test.words}]
  filters: {max_tokens: 60}
tokenizer: {type: bpe, vocab_size: 320, normalization: nmt_nfkc} # folds hidden blanks
model:
  encoder_layers: 2
  decoder_layers: 2
  d_model: 64
  num_heads: 4
  ffn_dim: 128
  max_positions: 64
training:
  batch_tokens: 512
  max_updates: 40
  learning_rate: 3.0e-3
  warmup_updates: 20
  valid_every: 20
  log_every: 5
decoding: {beam_size: 3}
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A folder with the small task and `config.yaml`, nothing prepared yet."""
    write_task(tmp_path, {"train": 2000, "valid": 60, "test": 60})
    (tmp_path / "config.yaml").write_text(TINY_CONFIG)
    return tmp_path


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a new folder with what `make` puts there: of all test processes, one makes it."""
    folder = factory.mktemp(name)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        make(folder)
        return folder
    shared = factory.getbasetemp().parent / f"{name}-of-all"
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            make(folder)
            copy = shared.with_suffix(".copy")
            shutil.copytree(folder, copy)
            copy.rename(shared)
            return folder
    shutil.copytree(shared, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def small_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the small task, prepared; runs on it belong into folders of their own."""
    from tests.in_process import prepare_small_task  # torch, which most tests never import

    return prepare_small_task(tmp_path_factory.mktemp("small-task"))


@pytest.fixture(scope="session")
def server() -> None:
    """The process that warm commands are forked from."""
    from tests.cli.warm import start_server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONUNBUFFERED", "1")
        start_server()


@pytest.fixture(name="products")
def products_setting() -> Iterator[Any]:
    """Who multiplies fp32 matrices: as torch begins, and in the end as it was."""
    import torch

    from mtrain.runtime.onednn import onednn_is_better

    setting = torch.backends.mkldnn.matmul
    before, setting.fp32_precision = setting.fp32_precision, "none"
    onednn_is_better.cache_clear()
    yield setting
    onednn_is_better.cache_clear()
    setting.fp32_precision = before


def succeed(command: Callable[..., Finished], *arguments: object, **options: object) -> Finished:
    """Run a command that must succeed, and return what it said."""
    finished = command(*arguments, **options)
    assert finished.code == 0, finished.err
    return finished


def every_line(text: str) -> Sequence[str]:
    """Split at \\n only, as mtrain does."""
    return text.removesuffix("\n").split("\n") if text else []
