"""Translates a sample with `transformers` in a process of its own."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from mtrain.errors import UserError
from mtrain.exchange.comparison import Output, Replay, Sample


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
    finished = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("replay.py")), str(folder)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        last = finished.stderr.strip().rpartition("\n")[2]
        raise UserError(f"transformers cannot load {folder}: {last}", "nothing was kept")
    answer = json.loads(finished.stdout)
    greedy, beam = ([Output(**each) for each in answer[name]] for name in ("greedy", "beam"))
    return Replay(answer["program"], answer["sources"], greedy, beam, answer["log_probabilities"])
