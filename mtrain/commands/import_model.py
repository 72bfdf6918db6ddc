"""`mtrain import`: make a run of a model that another program has trained."""

import random
import re
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from mtrain import __version__
from mtrain.checkpoints.format import checkpoint_name, save_checkpoint
from mtrain.commands.parity import SAMPLE_LINES, check_parity
from mtrain.config import Config
from mtrain.config.data import FilterConfig
from mtrain.config.load import config_of_run
from mtrain.console import say
from mtrain.data.folders import RunFolder
from mtrain.errors import UserError
from mtrain.exchange.comparison import Replay, Sample
from mtrain.exchange.huggingface.importing import Imported, read_folder
from mtrain.exchange.huggingface.replaying import translate_with_transformers
from mtrain.inference.load import load
from mtrain.text.lines import read_lines
from mtrain.text.tokenizer import Tokenizer, TokenizerPair

# how other programs compute
EXACT = ("device=cpu", "decoding.precision=fp32")
WANTED = ("*.json", "*.safetensors", "*.spm", "*.model")  # of a repository on the Hub
HUB_NAME = r"[\w-][\w.-]*(/[\w.-]+)?"
LONGEST = 12  # pieces of a made-up line


def import_model(
    name: str,
    run_dir: Path,
    languages: tuple[str | None, str | None],
    lines_path: Path | None,
) -> None:
    """Write a new run with the model `name`, a folder or a name on the Hub, and check it.

    `languages` are those of source and target where the folder does not say. `lines_path` is a
    text to translate for the check; by default the lines are made up.
    """
    if run_dir.exists():
        raise UserError(f"{run_dir}: this already exists", "name a folder that does not")
    parent = run_dir.absolute().parent
    lines = None if lines_path is None else list(islice(read_lines(lines_path), SAMPLE_LINES))
    if lines == []:
        raise UserError(f"{lines_path}: this file is empty", "leave out --sample, or give a text")
    folder = _find(name)
    imported = read_folder(folder)
    config = _config(name, imported, run_dir, languages)
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".importing-") as writing:
        run = RunFolder(Path(writing) / run_dir.name)
        origin = folder.name if folder == Path(name).expanduser() else name
        _write(run, imported, config, origin)
        loaded = load(run.path, None, EXACT)
        check_parity(
            loaded,
            _made_up(loaded.tokenizers.source) if lines is None else lines,
            lambda sample: _replay(folder, sample, imported, loaded.config),
            "huggingface",
        )
        run.path.rename(run_dir)
    count = sum(weight.numel() for weight in imported.weights.values())
    say(f"{run_dir}: a run with the {count:,} parameters of {folder}")
    say(
        f"next: mtrain translate {run_dir} FILE; to go on training: model: {{init_from: {run_dir}}}"
    )


def _find(name: str) -> Path:
    """Return the folder of that name, else download it from the Hub."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{folder}: this is a file, a folder in Hugging Face's layout was expected")
    if not re.fullmatch(HUB_NAME, name):
        raise UserError(f"{name}: there is no such folder (looked in {Path.cwd()})")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = Path(snapshot_download(name, allow_patterns=list(WANTED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{name}: there is no such folder (looked in {Path.cwd()}), and the Hub says: "
            f"{str(error).splitlines()[0]}",
            "without a network, copy the model's folder here and name it",
        ) from None
    if not list(found.glob("*.safetensors")):
        raise UserError(
            f"{name}: there is no .safetensors file on the Hub",
            f"hf download {name} --local-dir FOLDER; then mtrain import FOLDER, which says how to "
            "convert a pickle",
        )
    return found


def _config(
    name: str, imported: Imported, run_dir: Path, given: tuple[str | None, str | None]
) -> Config:
    """Return the configuration of the new run, which names no corpora."""
    languages = [mine or theirs for mine, theirs in zip(given, imported.languages, strict=True)]
    prefixes = imported.vocabularies.prefixes(*languages)
    for language, side in zip(languages, ("source", "target"), strict=True):
        if not language:
            raise UserError(
                f"{name}: it does not say what its {side} language is", f"give --{side}-lang"
            )
    folder = str(run_dir.absolute() / "tokenizer").replace("$", "$$")  # no variables
    path: Any = f"{folder}/shared.model"
    if imported.vocabularies.source is not imported.vocabularies.target:
        path = {side: f"{folder}/{side}.model" for side in ("source", "target")}
    filters = FilterConfig()
    content = {
        "run_dir": str(run_dir).replace("$", "$$"),
        "data": {
            "source_lang": languages[0],
            "target_lang": languages[1],
            "train": [],
            "valid": [],
            "filters": {"max_tokens": min(filters.max_tokens, imported.model.max_positions)},
        },
        "tokenizer": {"path": path, **prefixes},
        "model": imported.model.model_dump(mode="json"),
        "decoding": imported.decoding,
    }
    return config_of_run(content, name)


def _write(run: RunFolder, imported: Imported, config: Config, origin: str) -> None:
    run.begin_empty(config)
    tokenizers = run.path / "tokenizer"
    tokenizers.mkdir()
    imported.vocabularies.write(tokenizers)
    digest = TokenizerPair.load(tokenizers).digest()
    state = {
        "mtrain": __version__,
        "position": {"update": 0},
        "identity": {"tokenizers": digest},
        "imported_from": origin,
        "validation": None,
    }
    save_checkpoint(run.checkpoints, checkpoint_name(0), imported.weights, {}, state)


def _made_up(tokenizer: Tokenizer) -> list[bytes]:
    """Return lines of random pieces of the vocabulary."""
    draw, known = random.Random(1), tokenizer.ordinary_ids
    rows = [draw.choices(known, k=1 + number % LONGEST) for number in range(4 * LONGEST)]
    return [text.encode() for text in tokenizer.decode(rows)]


def _replay(folder: Path, sample: Sample, imported: Imported, config: Config) -> Replay | None:
    """Translate the sample with `transformers`, told the languages in its way."""
    source, target = config.tokenizer.prefixes(config.languages)
    told: dict[str, Any] = {}
    if imported.vocabularies.tags_both_sides:
        told = {"source_lang": config.data.source_lang, "target_prefix": target[0]}
    elif source:
        told = {"line_prefix": f"{source[0]} "}
    return translate_with_transformers(folder, sample, config.decoding.beam_size, **told)
