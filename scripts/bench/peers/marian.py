"""Marian: the C++ trainer in the wheel pymarian."""

import json

from peers.base import NEVER, Peer, Task

MARKS = ("</s>", "<unk>")
LOG_LINE = r"Up\. \d+ : Sen\. [\d,]+ : Cost .*?: Time ([\d.]+)s : ([\d.]+) words/s"


def _command(task: Task) -> list[str]:
    vocab = task.write("vocab.yml", "".join(
        f"{json.dumps(piece, ensure_ascii=False)}: {number}\n"
        for number, piece in enumerate((*MARKS, *task.pieces))
    ))  # fmt: skip
    options = {
        "type": "transformer", "model": task.folder / "model.npz", "enc-depth": task.num_layers,
        "dec-depth": task.num_layers, "dim-emb": task.d_model,
        "transformer-heads": task.num_heads, "transformer-dim-ffn": task.ffn_dim,
        "transformer-ffn-activation": "relu", "transformer-dropout": 0.1, "label-smoothing": 0.1,
        "mini-batch": 2000, "mini-batch-words": task.batch_tokens, "maxi-batch": 200,
        "max-length": 200, "cost-type": "ce-mean-words", "learn-rate": 0.001, "lr-warmup": 400,
        "lr-decay-inv-sqrt": 400, "clip-norm": 1, "cpu-threads": task.threads, "workspace": 3000,
        "seed": 1, "save-freq": f"{NEVER}u", "tempdir": task.folder, "disp-freq": "1u",
        "after": f"{task.num_updates}u",
    }  # fmt: skip
    spelled = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    sets = ["--train-sets", str(task.source), str(task.target), "--vocabs", vocab, vocab,
            "--optimizer-params", "0.9", "0.98", "1e-09"]  # fmt: skip
    flags = ["--tied-embeddings-all", "--overwrite", "--sync-sgd"]
    return ["pymarian", "train", *spelled, *sets, *flags]


PEER = Peer(_command, LOG_LINE)
