"""Show that a change leaves what a model learns as it was: a digest of each preset's weights.

    python scripts/weights_digest.py SOURCE TARGET WORK [--against FILE] [--updates N]

Trains every translation preset of configs/ that needs no other run for a few updates on a CPU,
through the command line, on the first lines of two parallel files (plain or gz). Run it before and
after a change, on one machine with one number of threads; `--against` compares with what an earlier
run wrote and exits with 1 if one differs. It uses whichever mtrain Python finds, so PYTHONPATH
chooses the version.
"""

import argparse
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import yaml
from safetensors.numpy import load_file

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TRAIN_PAIRS, VALID_PAIRS = 5000, 8


def main() -> None:
    """Train every preset, print the digests, compare them if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="text file in the source language")
    parser.add_argument("target", type=Path, help="its translation, line by line")
    parser.add_argument("work", type=Path, help="folder for data and runs; emptied first")
    parser.add_argument("--updates", type=int, default=50, help="default: 50")
    parser.add_argument("--against", type=Path, help="digests that an earlier run printed")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True)
    arguments.work = arguments.work.resolve()
    for side in ("source", "target"):
        _write_head(getattr(arguments, side), arguments.work, side)
    digests = {}
    for config in sorted(CONFIGS.glob("*.yaml")):
        if not _translates_by_itself(config):
            continue
        digests[config.stem] = _digest_after_training(config, arguments.work, arguments.updates)
        print(f"{config.stem}: {digests[config.stem]}", file=sys.stderr, flush=True)
    print(json.dumps(digests, indent=1))
    if arguments.against:
        before = json.loads(arguments.against.read_text("utf-8"))
        different = [name for name, digest in digests.items() if before.get(name) != digest]
        print(f"different: {', '.join(different) or 'none'}", file=sys.stderr)
        sys.exit(bool(different))


def _translates_by_itself(config: Path) -> bool:
    """Tell whether a preset learns to translate without another run."""
    tree = yaml.safe_load(config.read_text("utf-8"))
    is_suite = "run_dir" not in tree
    is_bert = tree.get("training", {}).get("objective") == "masked_lm"
    return not (
        is_suite or is_bert or "distillation" in tree or "init_from" in tree.get("model", {})
    )


def _write_head(path: Path, work: Path, side: str) -> None:
    """Write the first lines of a file as train.SIDE and the next ones as valid.SIDE."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        (work / f"train.{side}").write_bytes(b"".join(islice(file, TRAIN_PAIRS)))
        (work / f"valid.{side}").write_bytes(b"".join(islice(file, VALID_PAIRS)))


def _digest_after_training(config: Path, work: Path, updates: int) -> str:
    """Return the SHA-256 of the names and bytes of the weights after so many updates."""
    run_dir = work / config.stem
    corpora = {split: [{side: str(work / f"{split}.{side}") for side in ("source", "target")}]
               for split in ("train", "valid")}  # fmt: skip
    overrides = {
        "run_dir": str(run_dir),
        "data_dir": str(run_dir / "data"),
        "device": "cpu",
        "data.source_lang": "en",
        "data.target_lang": "de",
        "data.train": json.dumps(corpora["train"]),
        "data.valid": json.dumps(corpora["valid"]),
        "data.test": "[]",
        "training.max_minutes": "null",
        "training.max_updates": str(updates),
        "training.valid_every": str(updates),
    }
    options = [word for key, value in overrides.items() for word in ("--set", f"{key}={value}")]
    for verb in ("prepare", "train"):
        command = [sys.executable, "-m", "mtrain", verb, str(config), *options]
        # in a folder without an mtrain of its own, which Python would prefer to PYTHONPATH's
        subprocess.run(command, check=True, cwd=work, stdout=subprocess.DEVNULL)
    weights = load_file(run_dir / "checkpoints" / f"update-{updates:08}" / "model.safetensors")
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(weight.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
