"""Attention as one self-contained HTML page: no network, no server, no other file.

This module fills in the template attention_page.html. Each weight takes one byte, so the page
shows it to the nearest 1/255.
"""

import base64
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mtrain.data.store import FloatArray
from mtrain.evaluation.attention import SentenceAttention
from mtrain.text.lines import write_whole
from mtrain.text.tokenizer import WORD_START

TEMPLATE = "attention_page.html"
PLACE_FOR_DATA = "{{data}}"
LONGEST_TEXT = 90  # characters, in the list of sentences


def write_page(path: Path, sentences: Sequence[SentenceAttention], title: str) -> None:
    """Write a page on which the reader selects sentence, kind, layer and head.

    A URL fragment selects them as well, counted from 1: `#sentence=2&kind=cross&layer=1&head=3`;
    `&row=4&column=5` selects a cell.
    """
    data = {"title": title, "sentences": [_sentence(sentence) for sentence in sentences]}
    template = files("mtrain.evaluation").joinpath(TEMPLATE).read_text(encoding="utf-8")
    with write_whole(path) as file:
        file.write(template.replace(PLACE_FOR_DATA, _script_json(data)).encode())


def _sentence(sentence: SentenceAttention) -> dict[str, Any]:
    kinds = {}
    for kind, weights in sentence.weights.items():
        rows, columns = sentence.axes(kind)
        layers, heads = weights.shape[:2]
        kinds[kind] = {"rows": rows, "columns": columns, "layers": layers, "heads": heads,
                       "weights": _quantised(weights)}  # fmt: skip
    return {"text": _text(sentence.source[:-1]), "kinds": kinds}


def _text(tokens: list[str]) -> str:
    """Return pieces or words as a line that identifies the sentence in the list."""
    are_pieces = any(token.startswith(WORD_START) for token in tokens)
    text = "".join(tokens).replace(WORD_START, " ") if are_pieces else " ".join(tokens)
    return text.strip()[:LONGEST_TEXT]


def _quantised(weights: FloatArray) -> str:
    """Return the weights in base64, one byte each; 1.0 is 255."""
    return base64.b64encode(np.rint(weights * 255).astype(np.uint8).tobytes()).decode()


def _script_json(data: object) -> str:
    """Return JSON that cannot close its <script> element: `<` is escaped."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
