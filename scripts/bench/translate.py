"""The yardstick of translation: sentences and tokens a second, and how long one sentence takes.

    python scripts/bench/translate.py RUN INPUT [--set key=value ...] [--engines torch,ctranslate2]
        [--beams 5,1] [--rounds 3] [--latency 20] [--json FILE]

The engines translate INPUT in turn, round by round, on the same weights; their median is told, and
the median of each round's ratio to the first engine.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from yardstick import Figures, Report, run_yardstick

from mtrain.commands.loading import load_run
from mtrain.console import say
from mtrain.data.folders import RunFolder
from mtrain.decoding.translator import Translator
from mtrain.text.lines import read_lines


def open_translator(options: argparse.Namespace, engine: str, beam_size: int) -> Translator:
    """Return what translates as the command line and the arguments say."""
    run = RunFolder.open(options.run)
    asked = (f"decoding.engine={engine}", f"decoding.beam_size={beam_size}")
    return load_run(run, run.config((*options.overrides, *asked)), None).translator()


def seconds_for(translator: Translator, lines: Sequence[bytes]) -> float:
    """Return how long the lines take, from bytes to text."""
    started = time.perf_counter()
    translator.translate(lines)
    return time.perf_counter() - started


def measure(
    translators: dict[str, Translator], lines: Sequence[bytes], rounds: int, num_alone: int
) -> dict[str, Figures]:
    """Return the figures of each engine, measured in turn; end marks count as tokens."""
    seconds: dict[str, list[float]] = {name: [] for name in translators}
    num_tokens: dict[str, int] = {}
    alone = lines[:: max(1, len(lines) // num_alone)][:num_alone]
    for translator in translators.values():  # what is only slow at first
        translator.translate(alone)
    for _ in range(rounds):
        for name, translator in translators.items():
            before = translator.num_tokens
            seconds[name].append(seconds_for(translator, lines))
            num_tokens[name] = translator.num_tokens - before
    first = next(iter(seconds.values()))
    report: dict[str, Figures] = {}
    for name, translator in translators.items():
        median = statistics.median(seconds[name])
        report[name] = {
            "sentences": len(lines),
            "sentences_per_second": len(lines) / median,
            "tokens_per_second": num_tokens[name] / median,
            "slowest": len(lines) / max(seconds[name]),
            "fastest": len(lines) / min(seconds[name]),
            "ratio_to_first": statistics.median(
                base / own for base, own in zip(first, seconds[name], strict=True)
            ),
            "milliseconds_of_one_sentence": 1000
            * statistics.median(seconds_for(translator, [line]) for line in alone),
        }
    return report


def bench(options: argparse.Namespace) -> Report:
    """Measure every engine with every beam."""
    lines = list(read_lines(options.input))
    report: dict[str, Figures] = {}
    for beam_size in options.beams.split(","):
        translators = {
            engine: open_translator(options, engine, int(beam_size))
            for engine in options.engines.split(",")
        }
        say(f"translating {len(lines)} sentences {options.rounds} times, beam {beam_size}")
        measured = measure(translators, lines, options.rounds, options.latency)
        report |= {f"beam {beam_size}, {name}": figures for name, figures in measured.items()}
    return report


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Measure how fast a trained run translates here.")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("input", type=Path, metavar="INPUT")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--engines", default="torch", help="by comma; see decoding.engine")
    parser.add_argument("--beams", default="5,1", help="by comma")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", type=int, default=20, help="sentences translated alone")
    run_yardstick(parser, bench)


if __name__ == "__main__":
    main()
