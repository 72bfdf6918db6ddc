"""Starts a new model from the weights of another run: copies what fits, and reports all of it.

Tensors are copied by name. Tables, whose rows stand for words, are copied row by row: a row of the
new vocabulary takes the row of the same piece in the base's. The optimiser and the schedule are not
taken over. A student with half the layers of the run may start from every second one. Where the new
model has more learned positions, those of the run repeat.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtrain.checkpoints.format import read_state
from mtrain.config.base_layers import layers_to_copy
from mtrain.config.model import BaseRun, ModelPart, ModelSection
from mtrain.config.protection import name_of
from mtrain.console import warn
from mtrain.errors import UserError
from mtrain.inference.load import LoadedRun, load
from mtrain.models import Model
from mtrain.models.bert import Bert, origin_in_bert
from mtrain.text.tokenizer import Tokenizer, TokenizerPair

# The tables, and the side whose pieces their rows stand for. Where the new model ties tables that
# the base has apart, a row comes from the first of them that has its piece.
TABLES = {
    "target_embedding.weight": "target",
    "output.weight": "target",
    "output.bias": "target",
    "source_embedding.weight": "source",
}
POSITIONS = "_positions.weight"  # how the names of learned positions end
MOST_NAMED = 8  # tensors, or layers, in a list of the report

Rows = tuple[list[int], list[int]]  # of the new table, and of the base's


@dataclass(frozen=True)
class _Copy:
    """A tensor to copy, or some rows of it."""

    new: Tensor
    old: Tensor
    rows: Rows | None = None  # None: all of it


def initialise(
    model: Model, tokenizers: TokenizerPair, settings: ModelSection, base: BaseRun
) -> str:
    """Copy the best weights of a run into a model, in place, and report what became of each tensor.

    `settings` are the model's own. Raises `UserError`, before it copies anything, if a tensor has
    another shape there, if the vocabularies share no piece, if a side has a number of layers that
    `layers: every_second` does not fit, or if the run cannot be loaded.
    """
    try:
        run = load(base.run, None, ("device=cpu", "decoding.precision=fp32"))
    except UserError as error:
        raise UserError(f"model.init_from: {error.message}", error.hint) from None
    if run.tokenizers.protection and not tokenizers.protection:
        names = ", ".join(map(name_of, run.config.data.protect))
        warn(
            f"data.protect: {base.run} learnt with {names}, and this configuration protects "
            "nothing: what it gave back verbatim it may now misspell"
        )
    copies = _plan(model, tokenizers, run, base, _layers(settings, run, base))
    filled = _execute(copies)
    copied = sum(len(rows) * _row_size(tensor) for tensor, rows in filled.items())
    total = sum(parameter.numel() for parameter in model.parameters())
    used: dict[Tensor, set[int]] = {}
    for copy in copies:
        rows = copy.rows[1] if copy.rows else range(_num_rows(copy.old))
        used.setdefault(copy.old, set()).update(rows)
    return (
        f"initialised from {_describe(run)}: copied {copied / total:.1%} of {total:,} parameters; "
        f"{_repetition(copies)}newly initialised: {_remainder(model, filled)}; "
        f"left out: {_remainder(run.model, used)}; "
        "the optimiser and the schedule start afresh"
    )


def part_of(model: Model, name: str) -> ModelPart:
    """Return the part of a model that a parameter belongs to."""
    if name in TABLES:
        return "embeddings"
    return "encoder" if name.startswith(model.encoder_prefixes) else "decoder"


def _layers(settings: ModelSection, run: LoadedRun, base: BaseRun) -> dict[str, list[int]]:
    """Return the layer of the run that each layer of a side starts from, if by another number."""
    if base.layers == "all":
        return {}
    own, of_run = (section.model_dump() for section in (settings, run.config.model))
    return layers_to_copy(str(base.run), base.parts, own, of_run)


def _origin(model: Model, name: str, layers: Mapping[str, Sequence[int]]) -> str:
    """Return the name of a tensor in the layer of the run that its own layer starts from."""
    in_layer, side = re.fullmatch(r"(\w+)\.(\d+)\.(.+)", name), part_of(model, name)
    if in_layer is None or side not in layers:
        return name
    stack, number, rest = in_layer.groups()
    return f"{stack}.{layers[side][int(number)]}.{rest}"


def _plan(
    model: Model,
    tokenizers: TokenizerPair,
    run: LoadedRun,
    base: BaseRun,
    layers: Mapping[str, Sequence[int]],
) -> list[_Copy]:
    """Return what to copy, tables in the order of TABLES; raise UserError if something misfits."""
    new, old = (dict(each.named_parameters(remove_duplicate=False)) for each in (model, run.model))
    named = [*(name for name in new if name not in TABLES), *TABLES]
    is_other_kind = isinstance(run.model, Bert) and not isinstance(model, Bert)
    origins = {name: _origin(model, name, layers) for name in named}
    if is_other_kind:
        origins = {name: origin_in_bert(origin) for name, origin in origins.items()}
    wanted = [name for name in named
              if name in new and origins[name] in old
              and part_of(model, name) in base.parts]  # fmt: skip
    wrong = [
        f"{name}: shape {tuple(old[origins[name]].shape)} in {base.run}, "
        f"{tuple(new[name].shape)} here"
        for name in sorted(wanted)
        if _comparable(name, new[name]) != _comparable(name, old[origins[name]])
    ]
    if wrong:
        raise UserError(
            "model.init_from: tensors of different shapes:\n" + "\n".join(wrong),
            "leave out the keys of `model` that change a size, which are taken over, or leave out "
            "the part in model.init_from.parts",
        )
    if not wanted:
        raise UserError(
            f"model.init_from.parts: {', '.join(base.parts)}: the model has no such tensors",
            "name other parts: encoder, decoder, embeddings",
        )
    sides = {TABLES[name] for name in wanted if name in TABLES}
    rows = {side: _matched_rows(side, tokenizers, run, base) for side in sorted(sides)}
    copies = []
    for name in wanted:
        pair = new[name], old[origins[name]]
        if name in TABLES:
            copies.append(_Copy(*pair, rows[TABLES[name]]))
        elif name.endswith(POSITIONS):
            copies.append(_Copy(*pair, _repeated_rows(*map(len, pair))))
        else:
            copies.append(_Copy(*pair))
    return copies


def _comparable(name: str, tensor: Tensor) -> tuple[int, ...]:
    may_be_longer = name in TABLES or name.endswith(POSITIONS)
    return tuple(tensor.shape[1:] if may_be_longer else tensor.shape)


def _repeated_rows(num_new: int, num_old: int) -> Rows:
    return list(range(num_new)), [row % num_old for row in range(num_new)]


def _repetition(copies: Sequence[_Copy]) -> str:
    """Return how far learned positions repeat, if they do."""
    counts = {(len(copy.old), len(copy.new)) for copy in copies
              if copy.rows and len(set(copy.rows[1])) < len(copy.rows[1])}  # fmt: skip
    return "".join(f"the {old:,} learned positions repeat up to {new:,}; " for old, new in counts)


def _matched_rows(side: str, tokenizers: TokenizerPair, run: LoadedRun, base: BaseRun) -> Rows:
    """Return the rows of the same pieces in the new and the base's vocabulary of a side."""
    new: Tokenizer = getattr(tokenizers, side)
    old: Tokenizer = getattr(run.tokenizers, side)
    if not new.text_pieces() & old.text_pieces():
        raise UserError(
            f"model.init_from: the {side} vocabulary shares no piece with that of {base.run}",
            "leave out the section `tokenizer` to take over the run's, or leave out embeddings in "
            "model.init_from.parts",
        )
    places = {piece: row for row, piece in enumerate(old.pieces(range(old.vocab_size)))}
    pieces = enumerate(new.pieces(range(new.vocab_size)))
    pairs = [(row, places[piece]) for row, piece in pieces if piece in places]
    return [row for row, _ in pairs], [row for _, row in pairs]


@torch.no_grad()
def _execute(copies: Sequence[_Copy]) -> dict[Tensor, set[int]]:
    """Copy; return the rows of each tensor that were filled. The first copy of a row counts."""
    filled: dict[Tensor, set[int]] = {}
    for copy in copies:
        done = filled.setdefault(copy.new, set())
        if copy.rows is None:
            copy.new.copy_(copy.old)
            done.update(range(_num_rows(copy.new)))
            continue
        missing = [pair for pair in zip(*copy.rows, strict=True) if pair[0] not in done]
        if missing:
            to, of = torch.tensor(missing).T
            copy.new[to.to(copy.new.device)] = copy.old[of].to(copy.new.device)
        done.update(row for row, _ in missing)
    return filled


def _remainder(model: nn.Module, covered: Mapping[Tensor, set[int]]) -> str:
    """List the tensors that are not covered, or not in all rows, with their share of the model."""
    total = sum(parameter.numel() for parameter in model.parameters())
    sizes: dict[str, int] = {}
    rows: dict[str, str] = {}
    for name, parameter in model.named_parameters():
        missing = _num_rows(parameter) - len(covered.get(parameter, ()))
        if not missing:
            continue
        if missing < _num_rows(parameter):
            rows[name] = f"{missing:,} of {_num_rows(parameter):,} rows, "
        else:
            name = re.sub(r"^(\w+\.\d+)\..*", r"\1.*", name)  # all of a layer together
        sizes[name] = sizes.get(name, 0) + missing * _row_size(parameter)
    named = [f"{name} ({rows.get(name, '')}{size / total:.1%})" for name, size in sizes.items()]
    more = [f"{len(named) - MOST_NAMED} more"] if len(named) > MOST_NAMED else []
    return ", ".join([*named[:MOST_NAMED], *more]) or "nothing"


def _num_rows(tensor: Tensor) -> int:
    return len(tensor) if tensor.dim() else 1


def _row_size(tensor: Tensor) -> int:
    return tensor.numel() // _num_rows(tensor)


def _describe(run: LoadedRun) -> str:
    state = read_state(run.checkpoint)
    validation = state.get("validation") or {}
    told = [f"update {state['position']['update']:,}"]
    told += [f"dev {title} {validation[key]:.2f}"
             for key, title in (("bleu", "BLEU"), ("accuracy", "masked accuracy"))
             if key in validation]  # fmt: skip
    return f"{run.checkpoint.parent.parent} ({', '.join(told)})"
