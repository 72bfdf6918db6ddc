"""A model of every layout that `transformers` saves computes here what it does there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import mtrain
from mtrain.commands.import_model import import_model
from mtrain.errors import UserError
from mtrain.exchange.comparison import log_probabilities
from mtrain.exchange.huggingface.importing import read_folder
from mtrain.inference.load import LoadedRun
from tests.contract.layouts import LAYOUTS, LINES, copy_of

EXACT = ("device=cpu", "decoding.precision=fp32")


@pytest.fixture(scope="module", params=LAYOUTS)
def imported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, LoadedRun]:
    """The name of a layout, a folder in it, and the run that was made of it."""
    folder = tmp_path_factory.mktemp(request.param)
    write, options = LAYOUTS[request.param]
    (folder / "model").mkdir()
    write(folder / "model")
    given = dict(zip(options[::2], options[1::2], strict=True))
    languages = given.get("--source-lang"), given.get("--target-lang")
    sample = folder / "lines"
    sample.write_text("\n".join(LINES) + "\n")
    import_model(str(folder / "model"), folder / "run", languages, sample)
    return request.param, folder / "model", mtrain.load(folder / "run", overrides=EXACT)


@torch.inference_mode()
def test_ids_and_probabilities_are_those_of_transformers(
    imported: tuple[str, Path, LoadedRun],
) -> None:
    name, folder, run = imported
    told = {"src_lang": run.config.data.source_lang, "tgt_lang": run.config.data.target_lang}
    multilingual = name in ("m2m100", "nllb")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **told if multilingual else {})
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    source_prefix, _ = run.config.tokenizer.prefixes(run.config.languages)
    tag = None if multilingual or not source_prefix else source_prefix[0]
    tokenizers = run.prefixed_tokenizers
    lines = [f"{tag} {line}" if tag else line for line in LINES]
    encoded = tokenizer(lines, return_tensors="pt", padding=True)
    ends = encoded["attention_mask"].sum(dim=1)
    theirs = [ids[: end - 1].tolist() for ids, end in zip(encoded["input_ids"], ends, strict=True)]
    sources = tokenizers.source.encode(LINES)
    assert sources == theirs

    words = ["eins zwei", "neun drei vier", "fünf", "zehn neun acht", "sechs", "sieben"]
    targets = tokenizers.target.encode(words)
    labels = tokenizer(text_target=words)["input_ids"]
    assert [[*ids, run.tokenizers.target.eos_id] for ids in targets] == labels
    found = log_probabilities(run.model, tokenizers, list(zip(sources, targets, strict=True)))
    for row, ids in enumerate(labels):
        start = [[model.config.decoder_start_token_id, *ids[:-1]]]
        only = {key: value[row : row + 1, : ends[row]] for key, value in encoded.items()}
        logits = model(**only, decoder_input_ids=torch.tensor(start)).logits[0]
        if name.startswith("marian"):
            logits[:, model.config.pad_token_id] = -torch.inf  # it never generates that
        expected = logits.log_softmax(dim=1).gather(1, torch.tensor(ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(found[row]), expected, atol=1e-4, rtol=0)


def test_an_imported_run_is_a_run(imported: tuple[str, Path, LoadedRun]) -> None:
    """Long lines are split, words aligned; CTranslate2 finds what our search finds."""
    _, _, run = imported
    long = " ".join(LINES * 10)
    torch_only = run.translate([*LINES, long, ""], beam_size=1)
    assert torch_only[-2].num_segments > 1
    assert torch_only[-1].is_empty
    prefix = run.tokenizers.source.prefix
    assert all(source[: len(prefix)] == prefix for source, _ in torch_only[-2].segments)
    both = run.translate(LINES, beam_size=1, engine="ctranslate2")
    assert [one.text for one in both] == [one.text for one in torch_only[: len(LINES)]]
    searches = [run.translate(LINES, beam_size=2, engine=engine, max_length_ratio=0.1)
                for engine in ("torch", "ctranslate2")]  # fmt: skip
    scores = [(ours.score, theirs.score) for ours, theirs in zip(*searches, strict=True)
              if ours.text == theirs.text]  # fmt: skip
    assert scores
    for ours, theirs in scores:
        assert ours == pytest.approx(theirs, rel=0.03)  # another last token
    (linked,) = run.translate(["one two"], alignments=True, beam_size=1)
    assert linked.links is not None
    assert {source for source, _ in linked.links} <= {0, 1}
    forced = run.forced_decoder()
    ((pair,),) = run.encode_pairs(["one two"], ["eins zwei"])
    assert forced.attention(pair)["cross"].shape[2:] == tuple(len(side) + 1 for side in pair[::-1])


Change = Callable[[Path], None]


def changed_json(name: str, **changes: Any) -> Change:
    """Return a change of some keys of a JSON file."""

    def change(folder: Path) -> None:
        path = folder / name
        content = json.loads(path.read_text()) | changes
        path.write_text(json.dumps(content))

    return change


def changed_tensors(change_them: Callable[[dict[str, torch.Tensor]], None]) -> Change:
    """Return a change of the weights."""

    def change(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change_them(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return change


def truncate(folder: Path) -> None:
    """Cut the file of the weights."""
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickle_only(folder: Path) -> None:
    """Leave only a pickle."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


BIAS = "final_logits_bias"
FC1 = "model.encoder.layers.1.fc1.weight"


@pytest.fixture(scope="module")
def opus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound folder in Marian's layout."""
    folder = tmp_path_factory.mktemp("opus")
    LAYOUTS["marian"][0](folder)
    return folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed_json("config.json", model_type="t5"), "the layout t5 is not known"),
        (changed_json("config.json", d_model=32), "(16, 16); config.json implies (32, 32)"),
        (changed_json("config.json", encoder_layers=3), "no tensor model.encoder.layers.2."),
        (changed_json("config.json", encoder_layers=1), "not explained by config.json, such as"),
        (changed_json("config.json", decoder_ffn_dim=48), "encoder_ffn_dim 24 differs from"),
        (changed_json("config.json", activation_function="mish"), "no activation_function mish"),
        (changed_json("config.json", encoder_attention_heads=3, decoder_attention_heads=3),
         "num_heads 3 does not divide d_model 16"),
        (changed_json("config.json", pad_token_id=9999), "pad_token_id 9999 is not an id"),
        (changed_json("vocab.json", more=500), "but none has the id"),
        (changed_json("generation_config.json", bad_words_ids=[[99999]]), "not lists of ids below"),
        (changed_json("generation_config.json", bad_words_ids=[4]), "not lists of ids below"),
        (changed_json("generation_config.json", num_beams=0), "decoding.beam_size: input should"),
        (changed_json("tokenizer_config.json", unk_token="<what>"), "the vocabulary lacks <what>"),
        (changed_tensors(lambda tensors: tensors.pop(FC1)), f"there is no tensor {FC1}"),
        (changed_tensors(lambda tensors: tensors.update({FC1: torch.zeros(24, 8)})),
         f"{FC1} has the shape (24, 8); config.json implies (24, 16)"),
        (changed_tensors(lambda tensors: tensors.update(
            {"lm_head.weight": torch.zeros(len(tensors["model.shared.weight"]), 16)})),
         "ties model.shared.weight to lm_head.weight, but they differ"),
        (changed_tensors(lambda tensors: tensors.update(
            {name: tensors[name][..., :-4] if name == BIAS else tensors[name][:-4]
             for name in (BIAS, "model.shared.weight")})),
         "but a table of embeddings has only"),
        (truncate, "this file is damaged"),
        (pickle_only, "a pickle can run any program"),
        (lambda folder: (folder / "target.spm").unlink(), "target.spm: there is no such file"),
        (lambda folder: (folder / "target.spm").write_text("no"), "not a SentencePiece model"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: this is not JSON"),
        (lambda folder: (folder / "config.json").unlink(), "not a folder in Hugging Face's"),
    ],
)  # fmt: skip
def test_a_folder_that_lies_or_is_damaged_is_refused(
    opus: Path, tmp_path: Path, change: Change, says: str
) -> None:
    folder = copy_of(opus, tmp_path / "model")
    change(folder)
    with pytest.raises(UserError) as refused:
        import_model(str(folder), tmp_path / "run", (None, "deu"), None)
    assert says in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("languages", "says"),
    [
        ((None, None), "this model has several languages, and it has no de"),
        ((None, "dut"), "give --target-lang; it has deu, nds"),
    ],
)
def test_a_language_that_the_model_lacks_is_refused(
    opus: Path, tmp_path: Path, languages: tuple[None, str | None], says: str
) -> None:
    with pytest.raises(UserError) as refused:
        import_model(str(opus), tmp_path / "run", languages, None)
    assert says in str(refused.value)


def test_parts_of_weights_and_half_precision_are_read(opus: Path, tmp_path: Path) -> None:
    folder = copy_of(opus, tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = list(tensors)[::2], list(tensors)[1::2]
    where = {}
    for number, names in enumerate(halves):
        part = f"model-{number}.safetensors"
        save_file({name: tensors[name].half() for name in names}, folder / part)
        where |= dict.fromkeys(names, part)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    whole, parts = read_folder(opus).weights, read_folder(folder).weights
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(("layout", "is_scaled"), [("m2m100", True), ("marian-untied", False)])
def test_a_key_that_config_json_lacks_has_the_default_of_transformers(
    tmp_path: Path, layout: str, is_scaled: bool
) -> None:
    LAYOUTS[layout][0](tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    assert content["scale_embedding"] is is_scaled
    expected = read_folder(tmp_path).weights
    path.write_text(json.dumps({key: content[key] for key in content if key != "scale_embedding"}))
    found = read_folder(tmp_path).weights
    for name, weight in expected.items():
        assert torch.equal(found[name], weight), name
