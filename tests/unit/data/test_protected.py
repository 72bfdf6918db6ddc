"""Protected spans in a data folder: pieces in its tokens, raw text beside them."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrain.commands.prepare import prepare
from mtrain.config import Config
from mtrain.data.folders import DataFolder
from mtrain.data.makers.padded import BatchMaker
from mtrain.data.manifest import data_settings
from mtrain.errors import UserError
from mtrain.text.lines import read_lines
from mtrain.text.protection import PIECES, RESERVED, Protection
from mtrain.text.tokenizer import TokenizerPair

PROTECT = ["placeholders", "tags"]


def write_corpus(folder: Path, name: str, size: int, seed: int) -> dict[str, Path]:
    """Write pairs with a placeholder on both sides, a tag of blanks, and one on a side alone."""
    draw, paths = random.Random(seed), {}
    lines: dict[str, list[str]] = {"source": [], "target": []}
    for number in range(size):
        span, extra = f"{{n{draw.randrange(10**6)}}}", f'<a id="{number} x">'
        lines["source"].append(f"press {extra} {span} now {number} {{one}}")
        lines["target"].append(f"jetzt {span} {extra} {number} dr\u00fccken {{andere}}")
    for side, texts in lines.items():
        paths[side] = folder / f"{name}.{side}"
        paths[side].write_text("".join(f"{text}\n" for text in texts))
    return paths


def configured(folder: Path, **changes: Any) -> Config:
    train, valid = write_corpus(folder, "train", 200, 1), write_corpus(folder, "valid", 20, 2)
    data = {"source_lang": "en", "target_lang": "de", "train": [train], "valid": [valid],
            "protect": PROTECT, **changes.pop("data", {})}  # fmt: skip
    tokenizer = {"vocab_size": 330, "shared": False, "source_prefix": "<2{target_lang}>",
                 **changes.pop("tokenizer", {})}  # fmt: skip
    return Config.model_validate(
        {"run_dir": folder / "run", "data": data, "tokenizer": tokenizer, **changes}
    )


def prepared(config: Config) -> tuple[DataFolder, TokenizerPair, str]:
    report = prepare(config)
    folder = DataFolder(config.data_path)
    tokenizers = folder.tokenizers().with_prefixes(config.tokenizer.prefixes(("en", "de")))
    return folder, tokenizers, report


@pytest.mark.parametrize("type_of_vocabulary", ["bpe", "unigram"])
def test_tokens_have_the_pieces_that_both_sides_share(
    type_of_vocabulary: str, tmp_path: Path
) -> None:
    config = configured(tmp_path, tokenizer={"type": type_of_vocabulary})
    folder, tokenizers, report = prepared(config)
    protection = Protection.of(config.data.protect)
    for split in ("train", "valid"):
        store = folder.store(split)
        raw = [[line.decode() for line in read_lines(tmp_path / f"{split}.{side}")]
               for side in ("source", "target")]  # fmt: skip
        for row, texts in enumerate(zip(*raw, strict=True)):
            pair = protection.protect_pair(*texts)
            assert tokenizers.source.decode([store.source.row(row)]) == [pair.source]
            assert tokenizers.target.decode([store.target.row(row)]) == [pair.target]
            assert pair.source == f"press <p1> <p2> now {texts[0].split()[-2]} {{one}}"
    for side in (tokenizers.source, tokenizers.target):
        assert set(PIECES) <= set(side.all_pieces)
    assert (
        "protect  placeholders: 200 in the sources of 200 pairs; 200 others stay text: the target "
        "lacks them, or there are too many\nprotect  tags: 200 in the sources of 200 pairs\n"
    ) in report
    text = (folder.path / "text" / "valid.source").read_text()
    assert text == (tmp_path / "valid.source").read_text()


@pytest.mark.parametrize("type_of_vocabulary", ["bpe", "unigram"])
def test_sampled_segmentations_keep_the_pieces_whole(
    type_of_vocabulary: str, tmp_path: Path
) -> None:
    config = configured(tmp_path, tokenizer={"type": type_of_vocabulary})
    folder, tokenizers, _ = prepared(config)
    protecting = folder.tokenizers().protecting(Protection.of(PROTECT))
    store, prefix_ids = folder.store("train"), (tokenizers.source.prefix, ())
    maker = BatchMaker(store, protecting, 200, 10_000, 0.1, prefix_ids)
    rows = np.arange(len(store))
    stored, sampled = BatchMaker(store, protecting, 200, 10_000).make(rows), maker.make(rows, 3)
    assert stored.source.shape != sampled.source.shape or bool(
        (stored.source != sampled.source).any()
    )
    for side, tokenizer in (("source", protecting.source), ("target", protecting.target)):
        for one, other in zip(getattr(stored, side if side == "source" else "target_out").tolist(),
                              getattr(sampled, side if side == "source" else "target_out").tolist(),
                              strict=True):  # fmt: skip
            pieces = [[piece for piece in tokenizer.pieces(row) if piece in PIECES]
                      for row in (one, other)]  # fmt: skip
            assert pieces[0] == pieces[1] != []


def test_the_words_of_a_span_are_linked_to_its_token(tmp_path: Path) -> None:
    aligned = tmp_path / "train.align"
    # the tag is words 1 to 3 of the source and 2 to 4 of the target
    aligned.write_text("1-2 2-3 3-4 4-1 0-6\n" * 200)
    train = {"source": tmp_path / "train.source", "target": tmp_path / "train.target",
             "alignments": aligned}  # fmt: skip
    config = configured(
        tmp_path, data={"train": [train]}, tokenizer={"source_prefix": None, "shared": True}
    )
    folder, tokenizers, report = prepared(config)
    assert "200 pairs" in next(line for line in report.split("\n") if line.startswith("links"))
    assert "lost theirs" not in report
    store = folder.store("train")
    assert store.links is not None
    batch = BatchMaker(store, tokenizers, 200, 10_000).make(np.arange(1))
    source, target = (tokenizers.source.pieces(store.source.row(0)),
                      tokenizers.target.pieces(store.target.row(0)))  # fmt: skip
    assert batch.links is not None
    shares = batch.links[0].numpy()
    for piece in ("<p1>", "<p2>"):
        linked = {source[place] for place in np.flatnonzero(shares[target.index(piece)])}
        assert piece in linked
        assert linked <= {piece, "\u2581"}


def test_held_out_sets_taken_from_train_are_raw_text_and_protected_tokens(tmp_path: Path) -> None:
    config = configured(tmp_path, data={"valid": {"from_train": 20}, "test": {"from_train": 20}})
    folder, tokenizers, _ = prepared(config)
    raw = (folder.path / "text" / "valid.source").read_text()
    assert raw.count("{n") == 20
    assert not RESERVED.search(raw)
    store = folder.store("valid")
    for row in range(20):
        assert "<p1> <p2>" in tokenizers.source.decode([store.source.row(row)])[0]


def test_the_option_is_in_the_identity_of_the_data_only_where_it_is_set(tmp_path: Path) -> None:
    protected = configured(tmp_path)
    plain = configured(tmp_path, data={"protect": []})
    assert data_settings(protected)["data"]["protect"] == PROTECT
    assert "protect" not in data_settings(plain)["data"]
    folder, _, report = prepared(plain)
    assert "protect" not in report
    assert "protected" not in json.loads(folder.manifest_path.read_text())
    assert not set(PIECES) & set(folder.tokenizers().source.all_pieces)
    with pytest.raises(UserError, match=r"data\.protect"):
        folder.check_belongs(protected)


def test_a_model_of_text_protects_nothing(tmp_path: Path) -> None:
    bert = {"type": "bert", "encoder_layers": 1, "d_model": 16, "num_heads": 2, "ffn_dim": 32}
    with pytest.raises(ValueError, match=r"data\.protect cannot be used with training\.objective"):
        configured(tmp_path, tokenizer={"shared": True, "source_prefix": None}, model=bert,
                   training={"objective": "masked_lm"})  # fmt: skip
