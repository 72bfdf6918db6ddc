"""Takes over the settings of the run that `model.init_from` names, before validation.

Works on the trees of YAML files. The result spells every setting out, so that nothing else in the
program has to ask where a setting came from.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mtrain.config.base_layers import KEY, layers_to_copy
from mtrain.config.model import MODEL_PARTS, TransformerConfig
from mtrain.config.section import expand
from mtrain.errors import UserError

Tree = dict[str, Any]
ReadTree = Callable[[Path], Tree]
# keys of `tokenizer` that name no other tokenizer
KEEPING = {"symbols", "source_prefix", "target_prefix"}


def with_base_settings(tree: Tree, read: ReadTree, where: Callable[..., str]) -> Tree:
    """Return a configuration's tree, completed with the settings of the run that it starts from.

    Takes over the keys of `model` that the tree lacks, and the tokenizer unless the tree names its
    own. `read` returns the tree of a file, `where` the line of a key. Raises `UserError` if
    `model.init_from` names no run, or one of another architecture; a transformer may start from a
    bert. Raises it as well if `init_from.layers` does not fit the numbers of layers.
    """
    base = _base_in(tree)
    if base is None:  # there is none, or validation will refuse it
        return tree
    begun = _begun_run(tree, base, read)
    settings = begun or _base_run(base, read, where)
    own, taken = tree["model"], settings["model"] | {"init_from": None}
    training = tree.get("training")
    objective = training.get("objective") if isinstance(training, dict) else None
    if taken.get("type") == "bert" and objective != "masked_lm":
        if own.get("type") == "bert":
            raise UserError(
                f"{where('model', 'type')}: model.type: bert needs training.objective: masked_lm",
                "add training: {objective: masked_lm}; or leave out model.type, for a translator "
                f"that starts from {base}",
            )
        taken = _of_transformer(taken, own)
    if own.get("type", taken.get("type")) != taken.get("type"):
        raise UserError(
            f"{where('model', 'type')}: model.type: {own['type']} cannot start from {base}, whose "
            f"model.type is {taken.get('type')}",
            "leave out model.type, which is taken over",
        )
    if begun is None:
        _check_layers(base, taken | own, settings["model"], where)
    tokenizer = tree.get("tokenizer", {})
    if isinstance(tokenizer, dict) and tokenizer.keys() <= KEEPING:
        tokenizer = settings["tokenizer"] | tokenizer
    return {**tree, "model": taken | own, "tokenizer": tokenizer}


def _of_transformer(bert: Tree, own: Tree) -> Tree:
    """Return the settings of a BERT that a Transformer which starts from it has too.

    A decoder that starts from it as well has as many layers.
    """
    keys = TransformerConfig.model_fields.keys() - {"type", "tie_embeddings"}
    taken = {key: value for key, value in bert.items() if key in keys}
    if "decoder" in _parts(own) and "encoder_layers" in bert:
        taken["decoder_layers"] = bert["encoder_layers"]
    return taken | {"type": "transformer"}


def _check_layers(base: str, own: Tree, of_run: Tree, where: Callable[..., str]) -> None:
    """Raise UserError, with its line, if a side cannot start from every second layer."""
    given = own.get("init_from")
    if isinstance(given, dict) and given.get("layers") == "every_second":
        try:
            layers_to_copy(base, _parts(own), own, of_run)
        except UserError as error:
            place = where(*KEY.split("."))
            raise UserError(f"{place}: {error.message}", error.hint) from None


def _parts(model: Tree) -> Sequence[Any]:
    """Return the parts that a section `model` copies, none where they are no list."""
    given = model.get("init_from")
    parts = given.get("parts", MODEL_PARTS) if isinstance(given, dict) else MODEL_PARTS
    return parts if isinstance(parts, list | tuple) else ()


def _base_in(tree: Tree) -> str | None:
    """Return the folder that `model.init_from` names, as written, or None if it names none."""
    model = tree.get("model")
    given = model.get("init_from") if isinstance(model, dict) else None
    return _path(given.get("run") if isinstance(given, dict) else given)


def _path(given: Any) -> str | None:
    """Return a path that can be expanded, else None."""
    try:
        return given if isinstance(given, str) and expand(given) else None
    except ValueError:
        return None


def _begun_run(tree: Tree, base: str, read: ReadTree) -> Tree | None:
    """Return the settings of the run itself if it has begun and its base is gone.

    They contain those of the base.
    """
    run_dir = _path(tree.get("run_dir"))
    if run_dir is None or Path(expand(base)).exists():
        return None
    begun = Path(expand(run_dir)) / "config.yaml"
    settings = read(begun) if begun.is_file() else {}
    started_from = _base_in(settings)
    is_same = started_from is not None and expand(started_from) == expand(base)
    return settings if is_same else None


def _base_run(base: str, read: ReadTree, where: Callable[..., str]) -> Tree:
    """Return the sections `model` and `tokenizer` of the base run."""
    folder = Path(expand(base))
    refused = f"{where('model', 'init_from', 'run')}: model.init_from: {folder}"
    if not folder.exists():
        raise UserError(f"{refused}: there is no such run folder (looked in {Path.cwd()})")
    if not folder.is_dir():
        raise UserError(f"{refused}: this is a file, the folder of a run was expected")
    if _is_of_hugging_face(folder):
        raise UserError(
            f"{refused}: this is a Hugging Face model, not a run",
            f"import it first: mtrain import {folder} RUN; then name RUN here",
        )
    path = folder / "config.yaml"
    settings = read(path) if path.is_file() else {}
    if not isinstance(settings.get("model"), dict):
        raise UserError(
            f"{refused}: this folder is no run",
            "give the run_dir of a configuration that `mtrain train` has been run with",
        )
    models = f"{base}/tokenizer"
    names = {path.stem: path.name for path in sorted((folder / "tokenizer").glob("*.json"))}
    is_shared = "shared" in names or (folder / "tokenizer" / "shared.model").is_file()
    shared, *sides = (f"{models}/{names.get(side, f'{side}.model')}"
                      for side in ("shared", "source", "target"))  # fmt: skip
    tokenizer = dict(settings.get("tokenizer") or {})
    tokenizer.pop("symbols", None)  # the models contain them
    tokenizer["path"] = shared if is_shared else dict(zip(("source", "target"), sides, strict=True))
    return {"model": settings["model"], "tokenizer": tokenizer}


def _is_of_hugging_face(folder: Path) -> bool:
    try:
        return "model_type" in json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False
