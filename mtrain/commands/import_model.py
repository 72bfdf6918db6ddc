"""`mtrain import`: make a run of a model that another program has trained."""

import re
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from mtrain import __version__
from mtrain.checkpoints.format import checkpoint_name, save_checkpoint
from mtrain.commands.parity import (
    SAMPLE_LINES,
    check_masked_parity,
    check_parity,
    made_up_lines,
)
from mtrain.config import Config
from mtrain.config.data import FilterConfig
from mtrain.config.load import config_of_run
from mtrain.config.model import BertConfig, TransformerConfig
from mtrain.console import say, warn
from mtrain.data.folders import RunFolder
from mtrain.errors import UserError
from mtrain.exchange.comparison import Replay, Sample
from mtrain.exchange.huggingface.bert_format import long_texts
from mtrain.exchange.huggingface.bert_importing import ImportedBert, read_bert
from mtrain.exchange.huggingface.bert_names import BERT_LAYOUTS
from mtrain.exchange.huggingface.files import read_json
from mtrain.exchange.huggingface.importing import Imported, read_folder
from mtrain.exchange.huggingface.replaying import (
    fill_with_transformers,
    translate_with_transformers,
)
from mtrain.inference.load import LoadedRun, load
from mtrain.text.lines import read_lines
from mtrain.text.tokenizer import TokenizerPair

# how other programs compute
EXACT = ("device=cpu", "decoding.precision=fp32")
WANTED = ("*.json", "*.safetensors", "*.spm", "*.model", "*.txt")  # of a repository on the Hub
HUB_NAME = r"[\w-][\w.-]*(/[\w.-]+)?"


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
    about = read_json(folder / "config.json")
    imported: Imported | ImportedBert
    if about.get("model_type") in BERT_LAYOUTS:
        imported = read_bert(folder, about)
        config = _config_of_bert(name, imported, run_dir, languages)
    else:
        imported = read_folder(folder)
        config = _config(name, imported, run_dir, languages)
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".importing-") as writing:
        run = RunFolder(Path(writing) / run_dir.name)
        origin = folder.name if folder == Path(name).expanduser() else name
        _write(run, imported, config, origin)
        loaded = load(run.path, None, EXACT)
        lines = made_up_lines(loaded.tokenizers.source) if lines is None else lines
        _check(folder, loaded, lines, imported)
        run.path.rename(run_dir)
    count = sum(weight.numel() for weight in imported.weights.values())
    say(f"{run_dir}: a run with the {count:,} parameters of {folder}")
    _tell(run_dir, imported)


def _check(
    folder: Path, loaded: LoadedRun, lines: list[bytes], imported: Imported | ImportedBert
) -> None:
    """Raise UserError if `transformers` does not compute what the run does."""
    if isinstance(imported, ImportedBert):
        has_head = imported.has_head
        check_masked_parity(
            loaded, lines, lambda sample: fill_with_transformers(folder, sample, has_head)
        )
    else:
        check_parity(
            loaded,
            lines,
            lambda sample: _replay(folder, sample, imported, loaded.config),
            "huggingface",
        )


def _tell(run_dir: Path, imported: Imported | ImportedBert) -> None:
    """Say what was left out, and what to do next."""
    go_on = f"model: {{init_from: {run_dir}}}"
    if not isinstance(imported, ImportedBert):
        say(f"next: mtrain translate {run_dir} FILE; to go on training: {go_on}")
        return
    if imported.left_out:
        say(f"left out: {' and '.join(imported.left_out)}")
    if imported.model.encoder_attention.is_sparse:
        warn(long_texts(imported.model.encoder_attention))
    if not imported.has_head:
        warn(
            "this model has no head that predicts masked tokens: its hidden states can be used, "
            "masked predictions cannot"
        )
    say(
        f"next: to train a translator that starts from it: {go_on}; to go on training the BERT: "
        f"{go_on}, training: {{objective: masked_lm}}"
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
    content = _settings(run_dir, imported.model, {"path": path, **prefixes})
    content["data"] |= {"source_lang": languages[0], "target_lang": languages[1]}
    content["decoding"] = imported.decoding
    return config_of_run(content, name)


def _config_of_bert(
    name: str, imported: ImportedBert, run_dir: Path, given: tuple[str | None, str | None]
) -> Config:
    """Return the configuration of the new run, which names no corpora and no language."""
    for language, side in zip(given, ("source", "target"), strict=True):
        if language:
            raise UserError(
                f"--{side}-lang {language}: {name} is a BERT, which does not translate",
                f"leave out --{side}-lang",
            )
    folder = str(run_dir.absolute() / "tokenizer").replace("$", "$$")  # no variables
    tokenizer = {"path": f"{folder}/shared.json", "source_prefix": imported.prefix}
    content = _settings(run_dir, imported.model, tokenizer)
    return config_of_run(content | {"training": {"objective": "masked_lm"}}, name)


def _settings(
    run_dir: Path, model: TransformerConfig | BertConfig, tokenizer: dict[str, Any]
) -> dict[str, Any]:
    """Return what the configurations of all imported models have."""
    filters = {"max_tokens": min(FilterConfig().max_tokens, model.max_positions)}
    return {
        "run_dir": str(run_dir).replace("$", "$$"),
        "data": {"train": [], "valid": [], "filters": filters},
        "tokenizer": tokenizer,
        "model": model.model_dump(mode="json"),
    }


def _write(run: RunFolder, imported: Imported | ImportedBert, config: Config, origin: str) -> None:
    run.begin_empty(config)
    tokenizers = run.path / "tokenizer"
    tokenizers.mkdir()
    if isinstance(imported, ImportedBert):
        (tokenizers / "shared.json").write_bytes(imported.tokenizer)
    else:
        imported.vocabularies.write(tokenizers)
    digest = TokenizerPair.load(tokenizers).digest()
    state: dict[str, Any] = {
        "mtrain": __version__,
        "position": {"update": 0},
        "identity": {"tokenizers": digest},
        "imported_from": origin,
        "validation": None,
    }
    if isinstance(imported, ImportedBert) and not imported.has_head:
        state["lacks_head"] = True
    save_checkpoint(run.checkpoints, checkpoint_name(0), imported.weights, {}, state)


def _replay(folder: Path, sample: Sample, imported: Imported, config: Config) -> Replay | None:
    """Translate the sample with `transformers`, told the languages in its way."""
    source, target = config.tokenizer.prefixes(config.languages)
    told: dict[str, Any] = {}
    if imported.vocabularies.tags_both_sides:
        told = {"source_lang": config.data.source_lang, "target_prefix": target[0]}
    elif source:
        told = {"line_prefix": f"{source[0]} "}
    return translate_with_transformers(folder, sample, config.decoding.beam_size, **told)
