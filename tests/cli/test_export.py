"""`mtrain export`: other programs translate as mtrain does with what it writes."""

import ast
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import ctranslate2
import pytest
import transformers
from huggingface_hub import ModelCard

from mtrain.text.tokenizer import Tokenizer
from tests.cli.warm import WarmCommandLine
from tests.conftest import Finished, every_line, succeed


@pytest.fixture(scope="module")
def greedy(trained_run: Path) -> tuple[list[str], list[str]]:
    """The test lines and their greedy translations here."""
    lines = every_line((trained_run.parent / "test.digits").read_text())
    with closing(WarmCommandLine(trained_run.parent)) as warm:
        found = succeed(warm, "translate", "run", "test.digits", "--beam-size", "1")
    return list(lines), list(every_line(found.out))


@pytest.fixture(scope="module")
def exported(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Finished]:
    """An export for `transformers`, and what the command said."""
    folder = tmp_path_factory.mktemp("exported") / "out"
    with closing(WarmCommandLine(trained_run.parent)) as warm:
        return folder, succeed(warm, "export", "run", folder, "--to", "huggingface")


def test_transformers_translates_with_a_huggingface_export(
    exported: tuple[Path, Finished], greedy: tuple[list[str], list[str]]
) -> None:
    folder, finished = exported
    assert "in fp32 on 60 lines: greedy search 60 alike" in finished.err
    assert not finished.out
    lines, expected = greedy
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    generated = model.generate(
        **tokenizer(lines, return_tensors="pt", padding=True), num_beams=1, max_new_tokens=60
    )
    assert tokenizer.batch_decode(generated, skip_special_tokens=True) == expected


def test_the_model_card_is_read_by_the_hub_and_its_example_runs(
    trained: WarmCommandLine, exported: tuple[Path, Finished]
) -> None:
    folder, finished = exported
    assert "hf upload ORGANISATION/out" in finished.err
    text = (folder / "README.md").read_text()
    scores = json.loads(succeed(trained, "score", "run", "--json").out)["sets"][0]["scores"]
    told = ModelCard(text).data.eval_results
    assert [result.metric_value for result in told] == [
        round(score["value"], 2) for score in scores
    ]
    for score in scores:
        assert score["signature"].replace("|", "\\|") in text
    assert "| train.digits + train.words | 2,000 | 2,000 |" in text
    example = text.partition("```python\n")[2].partition("```")[0]
    ran = subprocess.run(
        [sys.executable, "-c", example],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(ast.literal_eval(ran.stdout)) == 2


@pytest.mark.parametrize(
    ("flag", "weights"), [((), "fp32"), (("--int8",), "int8"), (("--fp16",), "fp16")]
)
def test_ctranslate2_translates_with_its_export_alone(
    trained: WarmCommandLine,
    tmp_path: Path,
    greedy: tuple[list[str], list[str]],
    flag: tuple[str, ...],
    weights: str,
) -> None:
    folder = tmp_path / "out"
    finished = succeed(trained, "export", "run", folder, "--to", "ctranslate2", *flag)
    assert f"in {weights} on 60 lines: greedy search" in finished.err
    assert ctranslate2.contains_model(str(folder))
    lines, expected = greedy
    source, target = Tokenizer(folder / "source.spm"), Tokenizer(folder / "target.spm")
    pieces = [source.pieces(ids) for ids in source.encode(lines)]
    results = ctranslate2.Translator(str(folder)).translate_batch(pieces, beam_size=1)
    vocabulary = json.loads((folder / "shared_vocabulary.json").read_text())
    ids = [[vocabulary.index(piece) for piece in result.hypotheses[0]] for result in results]
    alike = sum(map(str.__eq__, target.decode(ids), expected))
    assert alike == len(lines) if weights == "fp32" else alike > 0.9 * len(lines)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--to", "onnx"), "there is no exchange format onnx"),
        (("--to", "huggingface", "--int8"), "huggingface cannot be exported in int8"),
        (("--to", "ctranslate2", "--int8", "--fp16"), "give one of --int8, --fp16"),
        (("--to", "huggingface", "--set", "model.positions=rotary"), "cannot hold a model with"),
        (("--to", "huggingface", "--checkpoint", "no-such"), "there is no checkpoint no-such"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    trained: WarmCommandLine, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    finished = trained("export", "run", tmp_path / "out", *options)
    assert finished.code == 2
    assert says in finished.err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(trained: WarmCommandLine, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    for place, says in ((tmp_path, "already exists"), (tmp_path / "a" / "b", "no such folder")):
        finished = trained("export", "run", place, "--to", "ctranslate2")
        assert finished.code == 2
        assert says in finished.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
