"""Training tensors in a file of each process: read together, each verified."""

from pathlib import Path

import pytest
import torch

from mtrain.checkpoints.collection import is_resumable
from mtrain.checkpoints.format import (
    DamagedCheckpoint,
    begin_checkpoint,
    load_checkpoint,
    publish,
    save_piece,
)
from mtrain.checkpoints.pieces import read_rows, shape_of

WHOLE = {"m": torch.arange(14.0).view(7, 2), "v": torch.arange(2.0), "step": torch.tensor(5.0)}
# of three processes: where the rows of m and v begin
STARTS = [{"m": 0, "v": 0}, {"m": 3, "v": 1}, {"m": 6}]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint whose training tensors three processes wrote, the last of them no row of v."""
    writing, digests = begin_checkpoint(tmp_path, "update-00000005"), {}
    rows = [
        {"m": WHOLE["m"][:3], "v": WHOLE["v"][:1], "step": WHOLE["step"]},
        {"m": WHOLE["m"][3:6], "v": WHOLE["v"][1:]},
        {"m": WHOLE["m"][6:]},
    ]
    for number, (tensors, starts) in enumerate(zip(rows, STARTS, strict=True), start=1):
        digests |= save_piece(writing, number, 3, tensors, starts)
    weights = {"w": torch.ones(2)}
    return publish(writing, tmp_path / "update-00000005", weights, {"number": 1}, digests)


def test_pieces_are_whole_tensors_again_and_any_rows_of_them(checkpoint: Path) -> None:
    assert is_resumable(checkpoint)
    training = load_checkpoint(checkpoint, with_training=True).training
    assert training.keys() == WHOLE.keys()
    for name, tensor in WHOLE.items():
        assert torch.equal(training[name], tensor)
        assert shape_of(training, name) == tensor.shape
    for start in range(8):
        for stop in range(start, 8):
            rows = slice(start, stop)
            assert torch.equal(read_rows(training, "m", rows), WHOLE["m"][rows])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_piece_that_is_missing_or_changed_is_noticed(number: int, checkpoint: Path) -> None:
    piece = checkpoint / f"training-{number}-of-3.safetensors"
    content = bytearray(piece.read_bytes())
    content[-1] ^= 1
    piece.write_bytes(content)
    with pytest.raises(DamagedCheckpoint, match=f"{piece.name} is not what was written"):
        load_checkpoint(checkpoint, with_training=True)
    piece.unlink()
    with pytest.raises(DamagedCheckpoint, match=f"{piece.name} is missing"):
        load_checkpoint(checkpoint, with_training=True)
    assert load_checkpoint(checkpoint, with_training=False).weights.keys() == {"w"}


def test_a_manifest_that_names_not_all_pieces_is_refused(checkpoint: Path) -> None:
    manifest = checkpoint / "manifest.json"
    manifest.write_text(manifest.read_text().replace("training-2-of-3", "training-4-of-3"))
    with pytest.raises(DamagedCheckpoint, match="is not of format 1 or 2"):
        load_checkpoint(checkpoint, with_training=True)
