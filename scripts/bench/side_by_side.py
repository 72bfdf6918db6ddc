"""Compare training speed with other trainers: same pieces, same model, in alternation.

    python scripts/bench/side_by_side.py EN DE WORK --peers DIR [--only eole,fairseq] [--rounds 3]
        [--size small] [--precision bf16] [--json FILE]

EN and DE are parallel training text. Reports real target tokens a second of wall time over --tokens
of them, from the end of the second update on. This includes data, forward, backward and optimiser,
and excludes start-up, validation and checkpoints. DIR has one environment per peer.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from inside import WARM_UP
from peers import PEERS, Peer, Task
from peers.base import NEVER
from yardstick import Figures, Report, run_yardstick

from mtrain.console import say
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.errors import UserError
from mtrain.text.lines import read_lines
from mtrain.text.tokenizer import available_cores
from mtrain.training.log import read_metrics

SIZES = {  # num_layers of each stack, d_model, ffn_dim, num_heads, vocab_size
    "tiny": (1, 32, 64, 2, 400),
    "small": (3, 256, 1024, 4, 8000),
    "base": (6, 512, 2048, 8, 32000),
    "big": (6, 1024, 4096, 16, 32000),
}
CONFIG = "mtrain.yaml"
OURS = "mtrain"
MTRAIN = [sys.executable, "-m", OURS]
TIMEOUT = 900  # seconds per trainer

Update = tuple[float, int, int]  # seconds since the start, real target tokens, positions or 0


def write_config(options: argparse.Namespace) -> Path:
    """Write mtrain's configuration of the task."""
    work: Path = options.work
    num_layers, d_model, ffn_dim, num_heads, vocab_size = SIZES[options.size]
    train = {"source": str(options.en), "target": str(options.de)}
    few = {side: str(work / f"few.{side}") for side in train}
    for side, text in train.items():
        lines = itertools.islice(read_lines(Path(text)), 2)  # valid must not be empty
        Path(few[side]).write_bytes(b"".join(line + b"\n" for line in lines))
    tree = {
        "run_dir": str(work / "peers" / OURS / "run"),
        "data_dir": str(work / "data"),
        "device": "cpu",
        "data": {"source_lang": "en", "target_lang": "de", "train": [train], "valid": [few],
                 "filters": {"drop_overlap": False}},
        "tokenizer": {"type": "unigram", "vocab_size": vocab_size, "normalization": "nmt_nfkc"},
        "model": {
            "type": "transformer", "encoder_layers": num_layers, "decoder_layers": num_layers,
            "d_model": d_model, "ffn_dim": ffn_dim, "num_heads": num_heads, "dropout": 0.1,
        },
        "training": {"batch_tokens": options.batch_tokens, "warmup_updates": 400, "log_every": 1,
                     "valid_every": NEVER, "precision": options.precision},
    }  # fmt: skip
    path = work / CONFIG
    path.write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")
    return path


def set_up(options: argparse.Namespace) -> Task:
    """Prepare the text and write it as pieces; return the task, whose folder differs per peer.

    All trainers read the whole text and only a part is measured: batching by length would be harder
    on a smaller text.
    """
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    if any(work.iterdir()):
        raise UserError(f"{work}: this folder is not empty", "name a new one for all that is made")
    command = [*MTRAIN, "prepare", str(write_config(options))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    data = DataFolder(work / "data")
    store, tokenizer = data.store("train"), data.tokenizers().target
    for tokens, language in ((store.source, "en"), (store.target, "de")):
        rows = (" ".join(tokenizer.pieces(tokens.row(row))) for row in range(len(store)))
        (work / f"pieces.{language}").write_text("".join(f"{row}\n" for row in rows), "utf-8")
    num_layers, d_model, ffn_dim, num_heads, _ = SIZES[options.size]
    return Task(
        work / "peers", work / "pieces.en", work / "pieces.de",
        tokenizer.pieces(tokenizer.ordinary_ids),
        num_layers, d_model, ffn_dim, num_heads, options.batch_tokens, options.tokens,
        threads=options.threads,
    )  # fmt: skip


def train_ours(task: Task) -> list[Update]:
    """Train with mtrain and return its updates."""
    updates = f"training.max_updates={task.num_updates}"
    config = task.folder.parents[1] / CONFIG
    command = [*MTRAIN, "train", str(config), "--set", updates]
    run_process(command, task)
    events = read_metrics(RunFolder(task.folder / "run").metrics_path)
    done = [0, *(event["target_tokens"] for event in events if event["kind"] == "train")]
    minutes = [event["minutes"] for event in events if event["kind"] == "train"]
    tokens = [after - before for before, after in itertools.pairwise(done)]
    return [(60 * minute, count, 0) for minute, count in zip(minutes, tokens, strict=True)]


def train_peer(peers_dir: Path, name: str, peer: Peer, task: Task) -> list[Update]:
    """Train with a peer and return its updates."""
    programs, command = peers_dir / name / "bin", peer.command(task)
    if peer.log_line:
        log = run_process([str(programs / command[0]), *command[1:]], task)
        updates, seconds = [], 0.0
        for took, rate in re.findall(peer.log_line, log):
            seconds += float(took)
            updates.append((seconds, round(float(took) * float(rate)), 0))
        return updates
    trace, before = task.folder / "trace.jsonl", task.folder / "before.txt"
    inside = [str(programs / "python"), str(Path(__file__).parent / "inside.py"), "--trace",
              str(trace), "--stop-tokens", str(task.num_tokens)]  # fmt: skip
    if before.is_file():
        inside += ["--before", str(before)]
    run_process([*inside, *command], task)
    lines = trace.read_text("utf-8").splitlines() if trace.is_file() else []
    return [tuple(json.loads(line).values()) for line in lines]


def run_process(command: list[str], task: Task) -> str:
    """Run a trainer in its folder and return its log."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(task.threads))
    environment = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1",
                   "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}  # fmt: skip
    log = task.folder / "log.txt"
    with log.open("wb") as file:
        subprocess.run(
            command, cwd=task.folder, env=environment, stdout=file, stderr=subprocess.STDOUT,
            timeout=TIMEOUT, check=False,
        )  # fmt: skip
    return log.read_text("utf-8", "replace")


def rate(updates: Sequence[Update], num_tokens: int) -> dict[str, float]:
    """Return tokens a second after the warm-up, and the share of padding if known."""
    started, seconds, tokens, positions = updates[WARM_UP - 1][0], 0.0, 0, 0
    for ended, real, padded in updates[WARM_UP:]:
        seconds, tokens, positions = ended - started, tokens + real, positions + padded
        if tokens >= num_tokens:
            break
    padding = {"padding": 1 - tokens / positions} if positions else {}
    return {"tokens_per_second": tokens / seconds, **padding}


def bench_training(options: argparse.Namespace) -> Report:
    """Train with each trainer, in alternation."""
    names = list(dict.fromkeys((OURS, *(options.only.split(",") if options.only else PEERS))))
    unknown = [name for name in names[1:] if name not in PEERS]
    if unknown:
        raise UserError(f"{unknown[0]} is no peer known here", f"there are: {', '.join(PEERS)}")
    everybodys = set_up(options)
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names:
            task = replace(everybodys, folder=everybodys.folder / name)
            shutil.rmtree(task.folder, ignore_errors=True)
            task.folder.mkdir(parents=True)
            updates = (
                train_ours(task)
                if name == OURS
                else train_peer(options.peers, name, PEERS[name], task)
            )
            if len(updates) <= WARM_UP:
                raise UserError(f"{name} did not train", f"see {task.folder / 'log.txt'}")
            measured[name].append(rate(updates, task.num_tokens))
            say(f"round {number + 1}, {name}: {measured[name][-1]['tokens_per_second']:,.0f}/s")
    return {name: _figures(measured[name], measured[OURS]) for name in names}


def _figures(own: list[dict[str, float]], ours: list[dict[str, float]]) -> Figures:
    speeds = [figures["tokens_per_second"] for figures in own]
    return {
        "target_tokens_per_second": statistics.median(speeds),
        "slowest": min(speeds),
        "fastest": max(speeds),
        "mtrain_is_so_many_times_faster": statistics.median(
            our["tokens_per_second"] / speed for our, speed in zip(ours, speeds, strict=True)
        ),
        **{name: figure for name, figure in own[-1].items() if name == "padding"},
    }


def whole_path(text: str) -> Path:
    """Return an absolute path: each trainer runs in its own folder."""
    return Path(text).resolve()


def main() -> None:
    """Run the comparison from the command line."""
    parser = argparse.ArgumentParser(description="Compare training speed with other trainers.")
    parser.add_argument("en", type=whole_path, metavar="EN")
    parser.add_argument("de", type=whole_path, metavar="DE")
    parser.add_argument("work", type=whole_path, metavar="WORK",
                        help="new folder for all output")  # fmt: skip
    parser.add_argument(
        "--peers", type=whole_path, required=True, help="folder with peer environments"
    )
    parser.add_argument("--only", default="", help="comma-separated peers, or mtrain (all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--tokens", type=int, default=50_000, help="measured target tokens")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--precision", default="fp32", help="of mtrain alone; peers use fp32")
    run_yardstick(parser, bench_training)


if __name__ == "__main__":
    main()
