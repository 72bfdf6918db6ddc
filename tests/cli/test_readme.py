"""The README's configuration and every `mtrain` and `torchrun` line of it, run for real.

The text is the small task under the README's file names, and the model is made small; nothing
else of what the README tells a newcomer to type is changed.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mtrain.config import load_config
from tests.cli.warm import mtrain_with, run_warm_python
from tests.conftest import Finished, succeed, write_task

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
OWN_FILES = "With two text files of your own"
YAMLS = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
SMALLER = {
    "vocab_size: 8000": "vocab_size: 320",
    "encoder_layers: 3, decoder_layers: 3, d_model: 256": "d_model: 32",
    "ffn_dim: 1024": "ffn_dim: 64",
    "from_train: 2000": "from_train: 20",
    "max_minutes: 60": "max_updates: 6, valid_every: 3",
    "warmup_updates: 100": "warmup_updates: 2",
    "batch_tokens: 2400": "batch_tokens: 800",
}

BERT_SMALLER = {
    "encoder_layers: 6, d_model: 256": "encoder_layers: 1, d_model: 32",
    "ffn_dim: 1024": "ffn_dim: 64",
    "from_train: 2000": "from_train: 20",
    "max_minutes: 60": "max_updates: 4",
}


def commands(heading: str) -> list[str]:
    """Return the lines of the `sh` blocks under a heading that start one of our programs."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL)).split("\n")
    return [line.split(" #")[0] for line in lines if line.startswith(("mtrain ", "torchrun "))]


def run(command: str, folder: Path) -> Finished:
    """Run a README line in a folder, with this interpreter's programs."""
    program, *arguments = shlex.split(command)
    if program == "mtrain":
        return run_warm_python(folder, *mtrain_with(*arguments))
    assert program == "torchrun"
    finished = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Finished(finished.returncode, finished.stdout, finished.stderr)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """Everything that the section on one's own files does, in its order."""
    folder = tmp_path_factory.mktemp("readme")
    write_task(folder, {"train": 1200, "valid": 20, "test": 20, "new": 4, "old": 4, "legal": 60})
    for path in folder.glob("*.digits"):
        path.rename(path.with_suffix(".en"))
    for path in folder.glob("*.words"):
        path.rename(path.with_suffix(".de"))
    shutil.copy(folder / "new.de", folder / "ref.de")
    found = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert found
    config = found[1]
    for ours, smaller in SMALLER.items():
        assert ours in config
        config = config.replace(ours, smaller)
    lines = [line for line in commands(OWN_FILES) if not line.startswith("mtrain config ")]
    assert [line.split()[1] for line in lines] == [
        "init",
        "prepare",
        "train",
        "train",
        "translate",
        "score",
        "report",
    ]
    succeed(run, lines[0], folder)
    load_config(folder / "my-model.yaml")
    (folder / "my-model.yaml").write_text(config)
    for line in lines[1:]:
        succeed(run, line, folder)
    return folder


def test_the_users_own_files_end_in_a_translation(trained: Path) -> None:
    source, translation = (trained / "new.en").read_text(), (trained / "new.de").read_text()
    assert translation.count("\n") == source.count("\n")
    page = (trained / "runs" / "my-model" / "report.html").read_text("utf-8")
    assert '<th scope="row">test</th><td>en-de</td>' in page


def test_the_configuration_is_printed_with_its_schema(trained: Path) -> None:
    difference, schema = (line for line in commands(OWN_FILES) if line.startswith("mtrain config "))
    assert "max_updates: 6" in run(difference, trained).out
    command, schema_path = schema.split(" > ")
    printed = json.loads(run(command, trained).out)
    assert "training" in printed["properties"]
    assert f"`# yaml-language-server: $schema={schema_path.strip()}`" in README


def test_the_fine_tuning_commands_start_from_that_run(trained: Path) -> None:
    written = next(text for text in YAMLS if "runs/legal" in text)
    assert "max_updates: 1000" in written
    (trained / "legal.yaml").write_text(written.replace("max_updates: 1000", "max_updates: 3"))
    prepared, training = commands("Fine-tuning")
    succeed(run, prepared, trained)
    said = succeed(run, training, trained).err
    assert "initialised from runs/my-model (update " in said
    assert "source_embedding.weight (1 of 3" in said  # the symbol


def test_the_commands_for_many_corpora_and_languages(trained: Path) -> None:
    reverse = trained / "runs/de-en"  # the same model under another name: it learnt nothing yet
    shutil.copytree(trained / "runs/my-model", reverse, ignore=shutil.ignore_patterns("data"))
    written = (reverse / "config.yaml").read_text()
    written = written.replace("source_lang: en", "source_lang: de", 1)
    (reverse / "config.yaml").write_text(written.replace("target_lang: de", "target_lang: en", 1))
    write_task(trained, {"news": 30}, seed=3)
    (trained / "news.words").rename(trained / "news.de")
    for split in ("train", "valid"):
        text = (trained / f"{split}.de").read_text()
        (trained / f"{split}.fr").write_text(text.replace("one", "un").replace("two", "deux"))
    for name in ("mix", "many"):
        written = next(text for text in YAMLS if f"run_dir: runs/{name}\n" in text)
        assert "until: 2000" in written or name == "many"
        small = written.replace("until: 2000", "until: 1").replace(
            "max_updates: 6000", "max_updates: 2"
        )
        model = (
            "model: {d_model: 32, num_heads: 4, ffn_dim: 64, encoder_layers: 1, decoder_layers: 1}"
        )
        small = small.replace("tokenizer: {", "tokenizer: {vocab_size: 340, ")
        if name == "mix":
            small += "tokenizer: {vocab_size: 340}\n"
        (trained / f"{name}.yaml").write_text(f"{small}{model}\n")
    lines = commands("Many corpora, many languages")
    assert [line.split()[1] for line in lines] == [
        "backtranslate", "prepare", "train", "prepare", "train", "translate"]  # fmt: skip
    for line in lines:
        succeed(run, line, trained)
    assert (trained / "new.fr").read_text().count("\n") == 4


def test_the_document_commands_translate_line_by_line(trained: Path) -> None:
    written = next(text for text in YAMLS if "run_dir: runs/documents\n" in text)
    assert "max_updates: 6000" in written
    model = "model: {d_model: 32, num_heads: 4, ffn_dim: 64, encoder_layers: 1, decoder_layers: 1}"
    small = written.replace("max_updates: 6000", "max_updates: 2")
    (trained / "documents.yaml").write_text(f"{small}tokenizer: {{vocab_size: 340}}\n{model}\n")
    write_task(trained, {"talks": 40, "talk": 5}, seed=5)
    for path in [*trained.glob("talk*.digits"), *trained.glob("talk*.words")]:
        lines = path.read_text().split("\n")
        text = "\n".join([*lines[:3], "", *lines[3:]])
        path.with_suffix(".en" if path.suffix == ".digits" else ".de").write_text(text)
    (trained / "talk.ids").write_text("a\na\na\na\nb\nb\n")
    lines = commands("Documents")
    assert [line.split()[1] for line in lines] == ["prepare", "train", "translate", "translate"]
    for line in lines:
        succeed(run, line, trained)
    assert (trained / "talk.de").read_text().count("\n") == 6


def test_the_attention_commands_show_and_link(trained: Path) -> None:
    lines = commands("What the model attends to")
    assert [line.split()[1] for line in lines] == ["attention", "attention", "translate", "align"]
    for line in lines:
        succeed(run, line, trained)
    assert (trained / "shown" / "attention.html").is_file()
    assert (trained / "new.align").read_text().count("\n") == 4


def test_the_bert_commands_train_score_fill_and_show(trained: Path) -> None:
    written = next(text for text in YAMLS if "run_dir: runs/bert\n" in text)
    for ours, smaller in BERT_SMALLER.items():
        assert ours in written
        written = written.replace(ours, smaller)
    (trained / "bert.yaml").write_text(f"{written}tokenizer: {{vocab_size: 340}}\n")
    (trained / "masked.en").write_text("1 2 [MASK] 4\n")
    lines = commands("BERT")
    assert [line.split()[1] for line in lines] == ["prepare", "train", "score", "fill", "attention"]
    for line in lines:
        finished = succeed(run, line, trained)
        assert finished.out.count(" ||| ") == (9 if " fill " in line else 0)
    assert (trained / "heads" / "attention.html").is_file()


@pytest.mark.parametrize("command", commands("On a GPU"))
def test_the_gpu_commands_train(command: str, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "box"
    shutil.copytree(trained, folder)
    for path in (folder / "runs/my-model").iterdir():
        if path.name != "data":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    succeed(run, command, folder)
    assert list((folder / "runs/my-model/checkpoints").glob("update-*"))


def test_shards_of_a_text_are_merged(trained: Path) -> None:
    """One shard in place of 64; Ray and several machines are not here."""
    shards = commands("On many machines")[:2]
    shutil.copy(trained / "new.en", trained / "big.en")
    for line in shards:
        succeed(run, line.replace("3/64", "1/1"), trained)
    assert (trained / "big.de").read_text().count("\n") == 4


def test_every_section_with_commands_is_run_here() -> None:
    with_commands = {heading for heading in re.findall(r"^## (.*)$", README, re.MULTILINE)
                     if commands(heading)}  # fmt: skip
    assert with_commands == {
        OWN_FILES, "Fine-tuning", "Many corpora, many languages", "Documents",
        "What the model attends to", "BERT", "On a GPU", "On many machines", "In a CI",
    }  # fmt: skip


def test_the_ci_commands_answer(trained: Path) -> None:
    suite = next(text for text in YAMLS if "\ncases:\n" in text)
    (trained / "suite.yaml").write_text(suite)
    lines = commands("In a CI")
    assert len(lines) == 6
    for line in lines:
        finished = run(line.split(" > ")[0], trained)
        is_no = "--fail-under" in line or "--suite" in line
        assert finished.code == is_no, finished.err
        assert "BLEU" in finished.out
        assert (" of 3 cases passed" in finished.out) == ("--suite" in line)
    assert "| BLEU |" in (trained / "comment.md").read_text()


def test_the_python_lines_translate(trained: Path) -> None:
    found = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert found
    finished = subprocess.run(
        [sys.executable, "-c", found[1]], cwd=trained, capture_output=True, text=True, check=True
    )
    assert len(finished.stdout.splitlines()) == 2
