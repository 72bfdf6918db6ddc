"""Benchmark translation: sentences and tokens a second, and the latency of one sentence.

    python scripts/bench/translate.py RUN INPUT [--set key=value ...]
        [--engines torch,torch:bf16,ctranslate2,ctranslate2-int8]
        [--beams 5,1] [--rounds 3] [--latency 20] [--peers DIR] [--json FILE]

The engines translate INPUT in alternation with the same weights. Reports the median of each and the
median ratio to the first engine per round. `opennmt` is OpenNMT-py in DIR/opennmt (README.md); its
time excludes reading and writing text.
"""

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import opennmt_search
from yardstick import Figures, Report, make_parser, run_yardstick

from mtrain.console import say
from mtrain.data.folders import RunFolder
from mtrain.decoding.translator import Translator
from mtrain.errors import UserError
from mtrain.inference.load import load_run
from mtrain.text.lines import read_lines

PEER = "opennmt"


@dataclass(frozen=True)
class Measured:
    """One translation of all lines by one engine, in its own process."""

    seconds: float
    num_tokens: int  # including end marks
    alone: float  # seconds for one sentence, median of a few
    texts: list[str]


def measure(options: argparse.Namespace, engine: str, beam_size: int) -> Measured:
    """Load the run, translate a few lines one by one, then all lines."""
    run, lines = RunFolder.open(options.run), list(read_lines(options.input))
    ours, _, precision = ("torch" if engine == PEER else engine).partition(":")
    settings = (
        f"decoding.engine={ours}",
        f"decoding.precision={precision or 'auto'}",
        f"decoding.beam_size={beam_size}",
    )
    loaded = load_run(run, run.config((*options.overrides, *settings)), None)
    if engine == PEER:
        python = options.peers / PEER / "bin" / "python"
        told, texts = opennmt_search.search(loaded, python, lines, options.latency)
        return Measured(told["seconds"], int(told["tokens"]), told["alone"], texts)
    translator = loaded.translator()
    few = lines[:: max(1, len(lines) // options.latency)][: options.latency]
    translator.translate(few)  # warm up
    alone = statistics.median(seconds_for(translator, line) for line in few)
    before = translator.num_tokens
    started = time.perf_counter()
    texts = [translation.texts[0] for translation in translator.translate(lines)]
    seconds = time.perf_counter() - started
    return Measured(seconds, translator.num_tokens - before, alone, texts)


def seconds_for(translator: Translator, line: bytes) -> float:
    """Return the seconds for one line, from bytes to text."""
    started = time.perf_counter()
    translator.translate([line])
    return time.perf_counter() - started


def in_a_process(options: argparse.Namespace, engine: str, beam_size: int) -> Measured:
    """Measure in a new process; two engines in one process compete for threads."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, options, engine, beam_size).result()


def figures(own: list[Measured], first: list[Measured]) -> Figures:
    """Return the figures of one engine."""
    num_lines = len(own[0].texts)
    seconds = [measured.seconds for measured in own]
    median = statistics.median(seconds)
    return {
        "sentences": num_lines,
        "sentences_per_second": num_lines / median,
        "tokens_per_second": own[0].num_tokens / median,
        "slowest": num_lines / max(seconds),
        "fastest": num_lines / min(seconds),
        "ratio_to_first": statistics.median(
            base.seconds / measured.seconds for base, measured in zip(first, own, strict=True)
        ),
        "lines_unlike_first": sum(map(str.__ne__, own[0].texts, first[0].texts)),
        "milliseconds_of_one_sentence": 1000 * statistics.median(m.alone for m in own),
    }


def bench(options: argparse.Namespace) -> Report:
    """Measure every engine with every beam size, in alternation."""
    RunFolder.open(options.run)
    engines = options.engines.split(",")
    if PEER in engines:
        if not (options.peers and (options.peers / PEER / "bin" / "python").is_file()):
            raise UserError(f"--engines {PEER}: there is no environment for it",
                            f"make DIR/{PEER} as README.md tells, and add --peers DIR")  # fmt: skip
        if not all(line.strip() for line in read_lines(options.input)):
            raise UserError(
                f"{options.input}: {PEER} cannot translate its empty lines", "take them out"
            )
    report: dict[str, Figures] = {}
    for beam_size in map(int, options.beams.split(",")):
        measured: dict[str, list[Measured]] = {engine: [] for engine in engines}
        for number in range(options.rounds):
            say(f"beam {beam_size}, round {number + 1} of {options.rounds}")
            for engine in engines:
                measured[engine].append(in_a_process(options, engine, beam_size))
        report |= {
            f"beam {beam_size}, {engine}": figures(own, measured[engines[0]])
            for engine, own in measured.items()
        }
    return report


def main() -> None:
    """Run the benchmark from the command line."""
    parser = make_parser("Measure translation speed of a trained run.", "RUN", "INPUT", rounds=3)
    parser.add_argument(
        "--engines",
        default="torch",
        help=f"comma-separated decoding.engine[:decoding.precision], or {PEER}",
    )
    parser.add_argument("--beams", default="5,1", help="comma-separated beam sizes")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="folder with peer environments")
    parser.add_argument("--latency", type=int, default=20, help="sentences for the latency")
    run_yardstick(parser, bench)


if __name__ == "__main__":
    main()
