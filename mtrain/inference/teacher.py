"""The teacher of a student: the run or runs of `distillation.teachers`, loaded and checked.

Several runs that translate teach as one: their probabilities are averaged.
"""

from dataclasses import dataclass
from pathlib import Path

from mtrain.checkpoints.format import weights_digest
from mtrain.config import Config
from mtrain.data.folders import DataFolder
from mtrain.errors import UserError
from mtrain.inference.directions import direction_of, other_prefixes
from mtrain.inference.ensemble import check_same_protection, load_together
from mtrain.inference.load import LoadedRun
from mtrain.models import SearchedModel
from mtrain.models.bert import Bert
from mtrain.runtime.precision import Precision
from mtrain.text.tokenizer import TokenizerPair, given_as

KEY = "distillation.teachers"


@dataclass(frozen=True)
class TokenTeacher:
    """A model that translates, whose distributions of each target token a student learns."""

    model: SearchedModel
    tokenizers: TokenizerPair
    precision: Precision
    batch_tokens: int
    runs: tuple[Path, ...]  # the first one's tokenizers are these
    checkpoints: str  # where the weights come from
    identity: str  # what two teachers of the same weights and vocabularies have in common

    @property
    def name(self) -> str:
        """All runs that teach."""
        return " + ".join(map(str, self.runs))


@dataclass(frozen=True)
class MaskedTeacher:
    """A BERT that predicts the masked tokens beside its student."""

    model: Bert
    identity: str


def token_teacher(config: Config) -> TokenTeacher:
    """Load the teacher of a student that translates.

    Raises `UserError` if there is none, if it cannot be loaded, if it does not translate, or if
    several do not fit together.
    """
    run = _load(config)
    if run.config.learns_from_text:
        raise UserError(
            f"{KEY}: {run.config.run_dir}: this teacher is a bert, which does not translate, and "
            "the student translates",
            "name the run of a model that translates; a bert can teach a bert",
        )
    if run.config.features is not None:
        raise UserError(
            f"{KEY}: {run.config.run_dir}: this teacher reads the states of a BERT beside the "
            "source (model.features), which `prepare` does not compute for a teacher",
            "name a teacher without model.features, or set distillation.weight: 0",
        )
    _check_directions(config, run.config)
    check_same_protection(config, run.config, f"{KEY}: {run.config.run_dir} cannot teach tokens")
    device = run.precision.device.type
    return TokenTeacher(
        run.searched_model,
        run.tokenizers,
        run.precision,
        run.config.decoding.tokens_at_once(device),
        tuple(each.config.run_dir for each in run.runs),
        " + ".join(str(each.checkpoint) for each in run.runs),
        _identity(run),
    )


def masked_teacher(
    config: Config, tokenizers: TokenizerPair, student: Bert, longest: int
) -> MaskedTeacher:
    """Load the teacher of a BERT that has these tokenizers; freeze it.

    It must read texts of `longest` tokens. Raises `UserError` if there is none, if it cannot be
    loaded, if it is not a BERT, or if it does not fit the student.
    """
    assert config.distillation is not None
    run = _load(config)
    folder = run.config.run_dir
    if not run.config.learns_from_text:
        raise UserError(
            f"{KEY}: {folder}: this teacher translates, and the student is a bert",
            "name the run of a bert, or train a student that translates",
        )
    try:
        model = run.masked_model if config.distillation.weight else run.model
    except UserError as error:
        raise UserError(
            f"{KEY}: {error.message}",
            "name a teacher with a head, or learn from its hidden states alone: "
            "distillation: {weight: 0, hidden_weight: 1}",
        ) from None
    assert isinstance(model, Bert)
    check_vocabulary(run.tokenizers, tokenizers.digest(), folder)
    check_positions(longest, model.max_positions, str(folder))
    widths = [bert.source_embedding.embedding_dim for bert in (model, student)]
    if config.distillation.hidden_weight and widths[0] != widths[1]:
        raise UserError(
            f"distillation.hidden_weight: {folder}: the hidden states of this teacher have width "
            f"{widths[0]}, those of the student {widths[1]}",
            f"set model.d_model: {widths[0]}, or distillation.hidden_weight: 0",
        )
    return MaskedTeacher(model.eval().requires_grad_(False), _identity(run))


def _check_directions(config: Config, of_teacher: Config) -> None:
    """Raise UserError if a teacher does not read and write the tokens of a student's pairs."""
    folder = of_teacher.run_dir
    for languages in config.data.directions:
        theirs = direction_of(of_teacher, languages)
        if theirs is None:
            known = ", ".join(" to ".join(each) for each in of_teacher.data.directions)
            raise UserError(
                f"{KEY}: {folder}: this teacher translates {known}, and the student "
                f"{' to '.join(languages)}",
                "name the run of a model of the same direction",
            )
        if told := other_prefixes(config, languages, of_teacher, theirs):
            raise UserError(
                f"{KEY}: {folder}: the prefixes of its source and target are {told[1]}, and those "
                f"of the student {told[0]}",
                "give the student the teacher's tokenizer.source_prefix and target_prefix",
            )


def check_vocabulary(teacher: TokenizerPair, student_digest: str, folder: Path) -> None:
    """Raise UserError, naming the teacher's folder, if a student has other vocabularies."""
    if teacher.digest() == student_digest:
        return
    raise UserError(
        f"{KEY}: {folder}: this teacher has another vocabulary than the student, so its "
        "distributions are of other tokens",
        f"take over the teacher's: tokenizer: {{path: {given_as(folder / 'tokenizer')}}}",
    )


def check_positions(longest: int, max_positions: int, name: str) -> None:
    """Raise UserError if a teacher reads fewer tokens at once than the longest text has."""
    if longest > max_positions:
        raise UserError(
            f"{KEY}: {name}: this teacher reads {max_positions} tokens at once, and the "
            f"training data have a text of {longest}, end mark included",
            f"set data.filters.max_tokens: {max_positions}, or name a teacher that reads more",
        )


def check_taught_by(config: Config, data: DataFolder) -> None:
    """Raise UserError if another teacher than the named one has taught the prepared data.

    Training does not need the teacher: one that is gone or cannot be loaded is not compared.
    """
    if config.kept_top_k is None:
        return
    try:
        teacher = token_teacher(config)
    except UserError:
        return
    if teacher.identity != data.manifest()["teacher_model"]:
        raise UserError(
            f"{KEY}: {teacher.name}: not the teacher that {data.path} was prepared with",
            "run `mtrain prepare` with this configuration again",
        )


def _load(config: Config) -> LoadedRun:
    """Load the teacher of a student, on the student's device."""
    assert config.distillation is not None
    teachers = config.distillation.teachers
    if not teachers:
        raise UserError(
            f"{KEY}: distillation needs a teacher, and none is named",
            "`mtrain distill TEACHER CONFIG.yaml` names it; or name one here: "
            "distillation: {teachers: [RUN]}",
        )
    precision = f"decoding.precision={config.decoding.precision}"
    try:
        return load_together(teachers, None, (f"device={config.device}", precision))
    except UserError as error:
        raise UserError(f"{KEY}: {error.message}", error.hint, error.exit_code) from None


def _identity(run: LoadedRun) -> str:
    weights = "+".join(weights_digest(each.checkpoint) for each in run.runs)
    return f"{weights}:{run.tokenizers.digest()}"
