"""Run OpenNMT-py's own search with given weights, in its environment, on CPU threads.

    python inside_opennmt.py TASK.json

Reads pieces, writes translations, and prints the seconds for all sentences and the median for one.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from onmt import opts
from onmt.inference_engine import InferenceEnginePY
from onmt.utils.parse import ArgumentParser


def save_checkpoint(task: dict[str, Any], path: Path) -> None:
    """Write the weights as an OpenNMT-py training checkpoint."""
    weights: dict[str, Any] = torch.load(task["weights"])
    generator = {
        name.removeprefix("generator."): weights.pop(name)
        for name in [name for name in weights if name.startswith("generator.")]
    }
    vocabulary = ["<blank>", "<unk>", "<s>", "</s>", *task["vocabulary"]]
    model = argparse.Namespace(
        model_task="seq2seq", encoder_type="transformer", decoder_type="transformer",
        position_encoding=True, enc_layers=task["encoder_layers"],
        dec_layers=task["decoder_layers"], heads=task["num_heads"], hidden_size=task["d_model"],
        word_vec_size=task["d_model"], transformer_ff=task["ffn_dim"], add_qkvbias=True,
        add_ffnbias=True, layer_norm="standard", norm_eps=1e-5, freeze_word_vecs_enc=False,
        freeze_word_vecs_dec=False, dropout=[0.0], attention_dropout=[0.0], optim="adam",
    )  # fmt: skip
    vocabs = {"src": vocabulary, "tgt": vocabulary, "data_task": "seq2seq"}
    torch.save({"model": weights, "generator": generator, "opt": model, "vocab": vocabs}, path)
    torch.serialization.add_safe_globals([argparse.Namespace])


def main() -> None:
    """Translate the source file of the task."""
    task = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    torch.set_num_threads(task["threads"])
    checkpoint, source = Path(task["weights"]).with_name("checkpoint.pt"), Path(task["source"])
    save_checkpoint(task, checkpoint)
    parser = ArgumentParser()
    opts.translate_opts(parser)
    options = parser.parse_args([
        "-model", str(checkpoint), "-src", str(source), "-output", task["output"],
        "-beam_size", str(task["beam_size"]), "-batch_size", str(task["batch_sentences"]),
        "-max_length_ratio", str(task["max_length_ratio"]), "-length_penalty", "avg",
        "-alpha", str(task["length_penalty"]),
    ])  # fmt: skip
    ArgumentParser.validate_translate_opts(options)
    ArgumentParser._get_all_transform_translate(options)  # as onmt_translate does
    ArgumentParser._validate_transforms_opts(options)
    ArgumentParser.validate_translate_opts_dynamic(options)
    engine = InferenceEnginePY(options)
    lines = source.read_text("utf-8").rstrip("\n").split("\n")
    few = lines[:: max(1, len(lines) // task["latency"])][: task["latency"]]

    def seconds_for(texts: list[str]) -> float:
        started = time.perf_counter()
        engine.infer_list(texts)
        return time.perf_counter() - started

    seconds_for(few)  # warm up
    alone = statistics.median(seconds_for([line]) for line in few)
    started = time.perf_counter()
    _, found = engine.infer_list(lines)
    print(json.dumps({"seconds": time.perf_counter() - started, "alone": alone}))
    Path(task["output"]).write_text("".join(f"{best[0]}\n" for best in found), "utf-8")


if __name__ == "__main__":
    main()
