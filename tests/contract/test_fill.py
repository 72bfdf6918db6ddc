"""A BERT in another program's layout fills masks as `transformers` does."""

from pathlib import Path

import pytest
import torch
import transformers

from mtrain.inference.filling import Filler
from mtrain.runtime.precision import choose_precision
from tests.contract.bert_layouts import LAYOUTS
from tests.contract.test_bert_import import read

LINES = ["one [MASK] two", "[MASK] seven ten", "six [MASK]", "four [MASK] five [MASK] one"]


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"headless"}))
def test_it_fills_as_transformers_does(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    torch.manual_seed(1)
    LAYOUTS[name](folder)
    _, model, tokenizer = read(folder, tmp_path)
    filler = Filler(model, tokenizer, choose_precision("fp32", "cpu"), 100)
    filled = filler.fill([line.encode() for line in LINES], 3)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    mask = their_tokenizer.mask_token
    for text, line in zip(LINES, filled, strict=True):
        ids = their_tokenizer(text.replace("[MASK]", mask), return_tensors="pt").input_ids
        with torch.no_grad():
            logits = theirs(ids).logits[ids == their_tokenizer.mask_token_id]
        shares = logits.softmax(dim=-1)[:, tokenizer.ordinary_ids]
        found = torch.tensor([[guess.probability for guess in guesses] for guesses in line.masks])
        torch.testing.assert_close(found, shares.topk(3).values, atol=1e-5, rtol=1e-4)
