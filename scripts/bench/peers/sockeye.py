"""Sockeye."""

import json

from peers.base import NEVER, Peer, Task

MARKS = ("<pad>", "<unk>", "<s>", "</s>")


def _command(task: Task) -> list[str]:
    numbers = {piece: number for number, piece in enumerate((*MARKS, *task.pieces))}
    vocab = task.write("vocab.json", json.dumps(numbers, ensure_ascii=False))
    options = {
        "source": task.source, "target": task.target,
        "validation-source": task.source, "validation-target": task.target,
        "source-vocab": vocab, "target-vocab": vocab, "output": task.folder / "model",
        "num-layers": f"{task.num_layers}:{task.num_layers}",
        "transformer-model-size": task.d_model, "transformer-attention-heads": task.num_heads,
        "transformer-feed-forward-num-hidden": task.ffn_dim, "transformer-dropout-attention": 0,
        "transformer-dropout-act": 0, "embed-dropout": 0.1, "transformer-dropout-prepost": 0.1,
        "weight-tying-type": "src_trg_softmax", "batch-type": "word",
        "batch-size": task.batch_tokens, "max-seq-len": 95, "label-smoothing": 0.1,
        "optimizer": "adam", "optimizer-betas": "0.9:0.98", "initial-learning-rate": 0.001,
        "learning-rate-scheduler-type": "inv-sqrt-decay", "learning-rate-warmup": 400,
        "gradient-clipping-type": "norm", "gradient-clipping-threshold": 1,
        "checkpoint-interval": NEVER, "max-updates": NEVER, "seed": 1, "decode-and-evaluate": 0,
    }  # fmt: skip
    spelled = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return ["sockeye.train", *spelled, "--shared-vocab", "--overwrite-output", "--use-cpu"]


PEER = Peer(_command)
