"""Translates a sample, or fills masked tokens, with `transformers` in a process of its own."""

import json
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from safetensors.torch import load_file

from mtrain.errors import UserError
from mtrain.exchange.comparison import Output, Replay, Sample
from mtrain.exchange.masked_comparison import MaskedReplay, MaskedSample


def translate_with_transformers(
    folder: Path,
    sample: Sample,
    beam_size: int,
    source_lang: str | None = None,
    line_prefix: str = "",
    target_prefix: str | None = None,
) -> Replay | None:
    """Return what `transformers` makes of a sample; None if it is not installed.

    `source_lang` is told to its tokenizer, `line_prefix` written before each line, and the piece
    `target_prefix` is forced as the first of each translation. Raises UserError if `transformers`
    cannot load the folder.
    """
    if find_spec("transformers") is None:
        return None
    request = {
        "lines": [line_prefix + line for line in sample.lines],
        "targets": [output.ids for output in sample.greedy],
        "beam_size": beam_size,
        "max_new_tokens": sample.max_new_tokens,
        "source_lang": source_lang,
        "target_prefix": target_prefix,
    }
    answer = json.loads(_run("replay.py", folder, stdin=json.dumps(request)))
    greedy, beam = ([Output(**each) for each in answer[name]] for name in ("greedy", "beam"))
    return Replay(answer["program"], answer["sources"], greedy, beam, answer["log_probabilities"])


def fill_with_transformers(
    folder: Path, sample: MaskedSample, has_head: bool
) -> MaskedReplay | None:
    """Return what `transformers` makes of a masked sample; None if it is not installed.

    Raises UserError if it cannot load the folder.
    """
    if find_spec("transformers") is None:
        return None
    request = {
        "lines": sample.lines,
        "ids": sample.masked_ids,
        "places": sample.places,
        "candidates": sample.candidates,
        "has_head": has_head,
    }
    with tempfile.TemporaryDirectory() as scratch:
        asked, answer = Path(scratch) / "request.json", Path(scratch) / "answer"
        asked.write_text(json.dumps(request), "utf-8")
        _run("replay_masked.py", folder, asked, answer)
        told = json.loads(answer.with_suffix(".json").read_text("utf-8"))
        tensors = load_file(answer.with_suffix(".safetensors"))
    states, found = ([tensors[f"{name}.{row}"] for row in range(len(sample.ids)) if has_head or
                      name == "states"] for name in ("states", "log_probabilities"))  # fmt: skip
    return MaskedReplay(told["program"], told["ids"], states, found)


def _run(script: str, folder: Path, *arguments: Path, stdin: str = "") -> str:
    """Run a script of this folder and return its output. Raises UserError if it fails."""
    finished = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(script)), str(folder), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        last = finished.stderr.strip().rpartition("\n")[2]
        raise UserError(f"transformers cannot load {folder}: {last}", "nothing was kept")
    return finished.stdout
