"""Hugging Face Transformers: a Marian model with Seq2SeqTrainer."""

import json

from peers.base import Peer, Task

MARKS = ("<pad>", "<s>", "</s>", "<unk>")


def _command(task: Task) -> list[str]:
    """Return the command: inside_transformers.py, configured by a JSON file."""
    told = {
        "vocabulary": [*MARKS, *task.pieces],
        "source": str(task.source),
        "target": str(task.target),
        "folder": str(task.folder),
        "num_layers": task.num_layers,
        "d_model": task.d_model,
        "ffn_dim": task.ffn_dim,
        "num_heads": task.num_heads,
        "batch_tokens": task.batch_tokens,
    }
    return ["inside_transformers", task.write("task.json", json.dumps(told))]


PEER = Peer(_command)
