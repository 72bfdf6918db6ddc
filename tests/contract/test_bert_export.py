"""A BERT that is exported computes in `transformers` what it does here, and splits text alike."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from mtrain.config import Config
from mtrain.config.tokenizer import TokenizerConfig
from mtrain.errors import UserError
from mtrain.exchange.base import export
from mtrain.exchange.card import Facts, write_card
from mtrain.exchange.ctranslate2 import CTranslate2Format
from mtrain.exchange.huggingface import HuggingFaceFormat
from mtrain.exchange.masked_comparison import batch_of
from mtrain.models import build_model
from mtrain.models.bert import Bert
from mtrain.text.tokenizer import MASK, Tokenizer, TokenizerPair, train_tokenizer

LINES = ["one two three", "smile \U0001f600, and a rare \u0f3c sign", "größer, Überfluß",
         "  two  spaces ", "देवनागरी", "tab\tand\u00a0no-break space", "a<0x41>b", "x", "ﬁne ½",
         "u\u0308ber", "onetwo aaaaa abababab"]  # fmt: skip
SIZES = {"type": "bert", "encoder_layers": 2, "d_model": 16, "num_heads": 2, "ffn_dim": 24,
         "max_positions": 64}  # fmt: skip


def bert_of(
    folder: Path, model: dict[str, Any], **tokenizer: Any
) -> tuple[Config, Bert, Tokenizer]:
    """Return a configuration, a model with random weights, and its tokenizer."""
    words = ["one", "two", "three", "größer", "Überfluß", "many", "spaces", "ab", "aa"]
    texts = [f"{first} {second}" for first in words for second in words]
    settings = TokenizerConfig(vocab_size=330, symbols=(MASK, "<en>"), **tokenizer)
    train_tokenizer(texts, settings, folder / "shared.model")
    text = {"text": "a.en", "lang": "en"}
    config = Config.model_validate(
        {
            "run_dir": "run",
            "data": {"train": [text], "valid": [text], "filters": {"max_tokens": 60}},
            "tokenizer": settings.model_dump(),
            "model": SIZES | model,
            "training": {"objective": "masked_lm"},
        }
    )
    tokenizer_here = Tokenizer(folder / "shared.model")
    torch.manual_seed(1)
    built = build_model(config, tokenizer_here.vocab_size, tokenizer_here.vocab_size).eval()
    assert isinstance(built, Bert)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return config, built, tokenizer_here


BLOCKS = {"type": "block_sparse", "block_size": 8, "random_blocks": 1}  # full up to 48 tokens


@pytest.mark.parametrize(
    ("kind", "normalization", "prefix", "options"),
    [("unigram", "identity", None, {"activation": "gelu"}),
     ("bpe", "nmt_nfkc", None, {"activation": "silu"}),
     ("unigram", "nmt_nfkc_cf", "<en>", {"activation": "relu"}),
     ("unigram", "identity", "<en>", {"activation": "gelu_tanh", "encoder_attention": BLOCKS})],
)  # fmt: skip
@torch.inference_mode()
def test_ids_states_and_predictions_are_the_same(
    kind: str,
    normalization: str,
    prefix: str | None,
    options: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, model, tokenizer = bert_of(
        tmp_path, options, type=kind, normalization=normalization, source_prefix=prefix
    )
    tokenizer = tokenizer.with_prefix([prefix] if prefix else [])
    pair = TokenizerPair(tokenizer, tokenizer)
    export(HuggingFaceFormat(), tmp_path / "out", model, config, pair)
    write_card(tmp_path / "out", "out", Facts(config, 1, 1, {}, [], True))
    card, told = (tmp_path / "out" / "README.md").read_text(), capsys.readouterr().err
    about = json.loads((tmp_path / "out" / "config.json").read_text())
    is_sparse = "encoder_attention" in options
    assert about["model_type"] == ("big_bird" if is_sparse else "bert")
    for said in (card, told):
        assert ("what mtrain does for texts of up to 48 tokens" in said) == is_sparse
        assert ("up to 56 tokens, and once the loaded model" in said) == is_sparse
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    rows = [[*ids, tokenizer.eos_id] for ids in tokenizer.encode(LINES)]
    assert theirs(LINES)["input_ids"] == rows
    found = theirs(f"one {MASK} three {MASK}")["input_ids"]
    start = len(tokenizer.prefix)
    one, three = (tokenizer.encode([word])[0][start:] for word in ("one", "three"))
    mask, end = tokenizer.mask_id, tokenizer.eos_id
    assert found == [*tokenizer.prefix, *one, mask, *three, mask, end]
    assert (theirs.mask_token_id, theirs.sep_token_id) == (mask, end)
    decoded = [theirs.decode(row, skip_special_tokens=True) for row in rows]
    assert decoded == tokenizer.decode([row[:-1] for row in rows])
    other, report = transformers.AutoModelForMaskedLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for row, state in zip(rows, model.hidden_states(batch_of(rows)), strict=True):
        out = other.eval()(torch.tensor([row]), output_hidden_states=True)
        state = state[: len(row)]
        torch.testing.assert_close(state, out.hidden_states[-1][0], atol=1e-4, rtol=1e-4)
        ours = model.output(model.features(state)).log_softmax(dim=-1)
        torch.testing.assert_close(ours, out.logits[0].log_softmax(dim=-1), atol=1e-4, rtol=1e-4)
    monkeypatch.chdir(tmp_path)
    exec(card.partition("```python\n")[2].partition("```")[0], {})
    assert len(ast.literal_eval(capsys.readouterr().out)) == 5


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"norm": "pre"}, "model.norm: pre"),
        ({"positions": "rotary"}, "model.positions: rotary"),
        ({"positions": "sinusoidal", "norm_type": "rms"},
         "model.positions: sinusoidal, model.norm_type: rms"),
        ({"activation": "swiglu"}, "model.activation: swiglu"),
        ({"embedding_norm": False}, "model.embedding_norm: false"),
        ({"encoder_attention": BLOCKS | {"window_blocks": 1, "random_blocks": 0}},
         "model.encoder_attention.window_blocks: 1 (BigBird has 3), "
         "model.encoder_attention.random_blocks: 0 (BigBird has 1 or more)"),
        ({"encoder_attention": BLOCKS | {"global_blocks": 1, "block_size": 7}},
         "model.encoder_attention.global_blocks: 1 (BigBird has 2), "
         "model.encoder_attention.block_size: 7 (BigBird's divides max_positions, 64)"),
    ],
)  # fmt: skip
def test_what_a_bert_of_transformers_cannot_hold_is_refused(
    model: dict[str, Any], says: str, tmp_path: Path
) -> None:
    config, built, tokenizer = bert_of(tmp_path, model)
    pair = TokenizerPair(tokenizer, tokenizer)
    with pytest.raises(UserError, match=re.escape(f"huggingface cannot hold a model with {says}")):
        export(HuggingFaceFormat(), tmp_path / "out", built, config, pair)
    with pytest.raises(UserError, match=r"ctranslate2 cannot hold a model with model\.type: bert"):
        export(CTranslate2Format(), tmp_path / "out", built, config, pair)
    assert not (tmp_path / "out").exists()


def test_a_prefix_of_a_language_cannot_be_exported(tmp_path: Path) -> None:
    config, built, tokenizer = bert_of(tmp_path, {}, source_prefix="<{source_lang}>")
    with pytest.raises(UserError, match=r"cannot hold a model with tokenizer\.source_prefix"):
        export(
            HuggingFaceFormat(), tmp_path / "out", built, config,
            TokenizerPair(tokenizer, tokenizer),
        )  # fmt: skip
