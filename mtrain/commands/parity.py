"""Checks that another program computes what a run's model does, on a sample of lines."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from mtrain.console import progress, say, warn
from mtrain.decoding.translator import Translation
from mtrain.exchange.comparison import Comparison, Output, Replay, Sample, without_unknown
from mtrain.exchange.masked_comparison import (
    MaskedReplay,
    MaskedSample,
    compare_masked,
    masked_sample,
)
from mtrain.inference.load import LoadedRun
from mtrain.models.bert import Bert
from mtrain.text.lines import clean_lines
from mtrain.text.protection import NO_PROTECTION
from mtrain.text.tokenizer import Tokenizer

SAMPLE_LINES = 200
LONGEST = 12  # pieces of a made-up line


def check_parity(
    loaded: LoadedRun,
    lines: Sequence[bytes],
    replay: Callable[[Sample], Replay | None],
    extra: str,
    weights: str = "fp32",
) -> bool:
    """Compare translations of the lines with those of `replay`; return whether that was possible.

    `extra` installs the other program, `weights` is its number format. Raises `UserError` if it
    does not compute the same.
    """
    if not lines:
        warn("not checked: there are no lines to translate")
        return False
    sample = _sample(loaded, lines)
    if not sample.lines:
        warn("not checked: each line is empty, or more than the model reads at once")
        return False
    with progress(f"checking with {extra}"):
        replayed = replay(sample)
    if replayed is None:
        warn(f"not checked: that needs pip install 'mtrain[{extra}]'")
        return False
    known, replayed = without_unknown(sample, replayed, loaded.tokenizers.source.unknown_id)
    if len(known.lines) < len(sample.lines):
        num_others = len(sample.lines) - len(known.lines)
        say(f"lines not compared, because the other program reads <unk> in them: {num_others}")
    if not known.lines:
        warn("not checked: no line is left to compare")
        return False
    penalty = loaded.config.decoding.length_penalty
    compared = Comparison(
        loaded.translation_model, loaded.prefixed_tokenizers, known, replayed, penalty, weights
    )
    say(compared.report())
    return True


def check_masked_parity(
    loaded: LoadedRun,
    lines: Sequence[bytes],
    replay: Callable[[MaskedSample], MaskedReplay | None],
) -> bool:
    """Compare what a BERT makes of the lines with what `replay` does; return if that was possible.

    Without lines, makes some up.
    Raises `UserError` if the other program does not compute the same.
    """
    assert isinstance(loaded.model, Bert)
    texts, _ = clean_lines(lines or made_up_lines(loaded.tokenizers.source))
    with progress("masking tokens of the sample"):
        tokenizer = loaded.text_tokenizers.source
        sample = masked_sample(loaded.model, tokenizer, texts, loaded.has_head)
    if not sample.lines:
        longest = f"{loaded.model.full_up_to:,} tokens"
        warn(f"not checked: each line is empty, contains a mark, or has more than {longest}")
        return False
    with progress("checking with huggingface"):
        replayed = replay(sample)
    if replayed is None:
        warn("not checked: that needs pip install 'mtrain[huggingface]'")
        return False
    say(compare_masked(sample, replayed))
    return True


def _sample(loaded: LoadedRun, lines: Sequence[bytes]) -> Sample:
    """Return the lines that the model reads at once, with their translations."""
    protect = loaded.tokenizers.protection.protect
    texts = [protect(text).text for text in clean_lines(lines)[0]]  # as others have to give them
    unprotected = replace(loaded, tokenizers=loaded.tokenizers.protecting(NO_PROTECTION))
    plain = unprotected.with_decoding(
        length_norm="power", coverage_penalty=0.0, repetition_guard=False, n_best=1
    )
    with progress("translating the sample"):
        greedy, beam = plain.translate(texts, beam_size=1), plain.translate(texts)
    fit = [
        row
        for row, both in enumerate(zip(greedy, beam, strict=True))
        if all(len(each.segments) == 1 for each in both)
    ]
    return Sample(
        [texts[row] for row in fit],
        [greedy[row].segments[0][0] for row in fit],
        [_output(greedy[row]) for row in fit],
        [_output(beam[row]) for row in fit],
    )


def _output(translation: Translation) -> Output:
    ((_, ids),) = translation.segments
    return Output(ids, translation.text, translation.is_cut_off)


def made_up_lines(tokenizer: Tokenizer) -> list[bytes]:
    """Return lines of random pieces of the vocabulary."""
    draw, known = random.Random(1), tokenizer.ordinary_ids
    rows = [draw.choices(known, k=1 + number % LONGEST) for number in range(4 * LONGEST)]
    return [text.encode() for text in tokenizer.decode(rows)]
