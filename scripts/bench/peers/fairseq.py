"""fairseq, as the fork fairseq-fixed, which runs on current Python."""

from peers.base import NEVER, Peer, Task


def _command(task: Task) -> list[str]:
    """Return the command; inside.py first binarises the data (`--before`)."""
    dictionary = task.write("dict.en.txt", task.vocabulary(line="{piece} 1\n"))
    for language, path in (("en", task.source), ("de", task.target)):
        task.write(f"train.{language}", path.read_text("utf-8"))
    options = {
        "arch": "transformer", "task": "translation", "optimizer": "adam",
        "adam-betas": "(0.9, 0.98)", "clip-norm": 1.0, "lr": 1e-3, "lr-scheduler": "inverse_sqrt",
        "warmup-updates": 400, "dropout": 0.1, "criterion": "label_smoothed_cross_entropy",
        "label-smoothing": 0.1, "max-tokens": task.batch_tokens, "max-update": NEVER,
        "log-format": "simple", "log-interval": 20, "num-workers": 0, "seed": 1,
        "required-batch-size-multiple": 1, "save-dir": task.folder / "model",
    }  # fmt: skip
    for side in ("encoder", "decoder"):
        options |= {
            f"{side}-layers": task.num_layers, f"{side}-embed-dim": task.d_model,
            f"{side}-ffn-embed-dim": task.ffn_dim, f"{side}-attention-heads": task.num_heads,
        }  # fmt: skip
    flags = ["--cpu", "--share-all-embeddings", "--no-save", "--disable-validation"]
    before = {
        "source-lang": "en", "target-lang": "de", "trainpref": task.folder / "train",
        "destdir": task.folder / "bin", "srcdict": dictionary, "workers": 1,
    }  # fmt: skip
    task.write("before.txt", "\n".join(
        ["fairseq_cli.preprocess", "--joined-dictionary", *_spell(before)]
    ))  # fmt: skip
    return ["fairseq_cli.train", str(task.folder / "bin"), *flags, *_spell(options)]


def _spell(options: dict[str, object]) -> list[str]:
    return [word for key, value in options.items() for word in (f"--{key}", str(value))]


PEER = Peer(_command)
