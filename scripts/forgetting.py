"""Fine-tune a general model to a domain, and measure what it gains there and forgets elsewhere.

    python scripts/forgetting.py --general EN DE --domain EN DE --domain-valid EN DE
        --domain-test EN DE OUT

The general text is split by source into train, valid and test. The domain's first pairs are the
small corpus that a user has. Each run is one `mtrain train`, so an interrupted
study resumes. Writes OUT/results.json and prints a table.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from datetime import datetime, timezone
from hashlib import blake2b
from pathlib import Path
from typing import Any

import yaml

from mtrain.config.corpora import PairFiles
from mtrain.console import say
from mtrain.text.corpora import read_pairs
from mtrain.text.lines import clean_bytes
from mtrain.training.log import read_metrics

Pair = tuple[str, str]
LANGUAGES = ("en", "de")
HELD_OUT = 1000  # sources of valid, and of test
DOMAIN_PAIRS = 5000
SHAPE = {"encoder_layers": 4, "decoder_layers": 4, "d_model": 128, "num_heads": 4, "ffn_dim": 512}
TRAINING = {"optimizer": "muon", "batch_tokens": 2400, "warmup_updates": 100}
GENERAL = {**TRAINING, "learning_rate": 4e-3, "max_updates": 3000, "valid_every": 1000}
ADAPTED = {**TRAINING, "learning_rate": 1e-3, "max_updates": 400, "valid_every": 200}
SEEDS = (1, 2, 3)
# pairs of old text beside those of the domain
REPLAYS = {"domain alone": 0, "as many old pairs": 5000, "four times as many": 20_000}


class Study:
    """One run of the study, in a folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.text = out / "text"

    def write_text(self, options: argparse.Namespace) -> None:
        """Write the sets of both domains, and the first pairs of each as small corpora."""
        if self.text.is_dir():
            return
        general = split(_read(options.general))
        train = general["train"]
        sets = {f"general-{name}": pairs for name, pairs in general.items()}
        sets |= {"domain-train": _read(options.domain)[:DOMAIN_PAIRS],
                 "domain-valid": _read(options.domain_valid),
                 "domain-test": _read(options.domain_test)}  # fmt: skip
        sets |= {f"old-{count}": train[:: max(1, len(train) // count)][:count]
                 for count in REPLAYS.values() if count}  # fmt: skip
        writing = self.text.with_name("text.writing")
        writing.mkdir(parents=True, exist_ok=True)
        for name, pairs in sets.items():
            for side, language in enumerate(LANGUAGES):
                text = "".join(f"{pair[side]}\n" for pair in pairs)
                (writing / f"{name}.{language}").write_text(text, "utf-8", newline="\n")
        writing.rename(self.text)

    def files(self, text: str, **more: str) -> dict[str, str]:
        """Return a corpus of the configuration."""
        source, target = (str(self.text / f"{text}.{language}") for language in LANGUAGES)
        return {"source": source, "target": target, **more}

    def train(self, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Prepare, train and score a run; return its validations and test scores."""
        path = self.out / f"{name}.yaml"
        languages = dict(zip(("source_lang", "target_lang"), LANGUAGES, strict=True))
        settings["data"] |= languages | {
            "test": [self.files("general-test", name="general"),
                     self.files("domain-test", name="domain")]
        }  # fmt: skip
        content = {"run_dir": str(self.out / "runs" / name), **settings}
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        for verb in ("prepare", "train"):
            command = [sys.executable, "-m", "mtrain", verb, str(path)]
            subprocess.run(command, check=True, stdout=sys.stderr)
        scored = subprocess.run(
            [sys.executable, "-m", "mtrain", "score", content["run_dir"], "--json"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        events = read_metrics(Path(content["run_dir"]) / "metrics.jsonl")
        return {
            "validations": [event for event in events if event["kind"] == "valid"],
            "scores": {
                found["name"]: found["scores"] for found in json.loads(scored.stdout)["sets"]
            },
        }

    def general(self) -> dict[str, Any]:
        """Train the general model."""
        data = {
            "train": [self.files("general-train")],
            "valid": [self.files("general-valid")],
            "watch": [self.files("domain-valid", name="domain-valid")],
        }
        return self.train(
            "general",
            {
                "data": data,
                "tokenizer": {"type": "unigram", "vocab_size": 8000},
                "model": {"type": "transformer", **SHAPE, "dropout": 0.1},
                "training": GENERAL,
                "seed": 1,
            },
        )

    def adapted(self, num_old: int, seed: int) -> dict[str, Any]:
        """Fine-tune the general model to the domain, with some old pairs mixed in."""
        train = [self.files("domain-train")]
        if num_old:
            train.append(self.files(f"old-{num_old}"))
        data = {
            "train": train,
            "valid": [self.files("domain-valid")],
            "watch": [self.files("general-valid", name="general-valid")],
        }
        return self.train(
            f"adapted-{num_old}-{seed}",
            {
                "data": data,
                "model": {"init_from": str(self.out / "runs" / "general"), "dropout": 0.2},
                "training": ADAPTED,
                "seed": seed,
            },
        )


def split(pairs: list[Pair]) -> dict[str, list[Pair]]:
    """Return valid, test and train, such that no source is in two; its digest decides."""
    by_source: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_source.setdefault(pair[0], []).append(pair)
    order = sorted(by_source, key=lambda source: blake2b(source.encode()).digest())
    held_out = {"valid": order[:HELD_OUT], "test": order[HELD_OUT : 2 * HELD_OUT]}
    sets = {name: [by_source[source][0] for source in sources]
            for name, sources in held_out.items()}  # fmt: skip
    known = {source for sources in held_out.values() for source in sources}
    return sets | {"train": [pair for pair in pairs if pair[0] not in known]}


def _read(files: list[Path]) -> list[Pair]:
    """Return the distinct pairs of two files."""
    pairs = read_pairs(PairFiles(source=files[0], target=files[1]), ("", ""))
    return list(dict.fromkeys((clean_bytes(one), clean_bytes(other)) for one, other in pairs))


def table(results: dict[str, Any]) -> str:
    """Return the test BLEU of each kind of run, in Markdown: mean and range of the seeds."""
    rows = ["| trained on | test BLEU, domain | test BLEU, general |", "| --- | --- | --- |"]
    kinds = {"the general text": [results["general"]]}
    kinds |= {f"then the domain's pairs: {name}": results["adapted"][str(count)]
              for name, count in REPLAYS.items()}  # fmt: skip
    for name, runs in kinds.items():
        cells = []
        for kind in ("domain", "general"):
            values = [run["scores"][kind][0]["value"] for run in runs]
            spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("general", "domain", "domain-valid", "domain-test"):
        parser.add_argument(f"--{name}", nargs=2, type=Path, required=True, metavar=("EN", "DE"))
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    study = Study(options.out)
    study.write_text(options)
    results: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": platform.processor() or platform.machine(),
        "general": study.general(),
    }
    results["adapted"] = {
        str(count): [study.adapted(count, seed) for seed in SEEDS] for count in REPLAYS.values()
    }
    path = options.out / "results.json"
    path.write_text(json.dumps(results, indent=1))
    say(f"{path}: written")
    print(table(results))


if __name__ == "__main__":
    main()
