"""`mtrain score` of a run that fills masked tokens: how well it predicts those of a test set."""

import math

import numpy as np

from mtrain.console import progress, warn
from mtrain.data.held_out_text import HeldOutText
from mtrain.data.makers.masked import MaskedMaker
from mtrain.data.splits import encode, one_sided
from mtrain.data.store import Column
from mtrain.distributed.group import ProcessGroup
from mtrain.errors import UserError
from mtrain.evaluation.metrics import Score
from mtrain.inference.load import LoadedRun
from mtrain.text.lines import clean_pairs, count_invalid, warn_of_invalid
from mtrain.text.links import SIDES
from mtrain.training.masked_scorer import MaskedScorer, TextPart


def score_masked(loaded: LoadedRun, test: HeldOutText) -> tuple[int, list[Score]]:
    """Return how many texts were scored, and the accuracy (percent), perplexity and loss.

    They are means over the masked tokens, which are the same each time and those of a validation
    on this text. Leaves out empty and long texts, with a warning, as a validation does.
    """
    config, num_lines = loaded.config, len(test.sources)
    rows = _encode(loaded, test)
    num_texts = len(rows["source"])
    longest = config.data.filters.max_tokens
    if not num_texts:
        raise UserError(
            f"{test.name}: every text is empty or over data.filters.max_tokens {longest}"
        )
    if num_texts < num_lines:
        warn(
            f"{test.name}: {num_lines - num_texts} of {num_lines} texts are empty or over "
            f"data.filters.max_tokens {longest}: left out"
        )
    columns = [Column.of(rows[side]) for side in SIDES]
    maker = MaskedMaker(columns[0], columns[1], loaded.tokenizers.source, config)
    part = TextPart(test.name, np.arange(num_texts))
    scorer = MaskedScorer(maker, [part], loaded.precision)
    with progress(f"scoring {test.name}", num_texts, "texts") as shown:
        found = scorer.score(loaded.masked_model, shown.advance, ProcessGroup.alone())
    assert found.accuracy is not None
    perplexity = math.exp(min(found.loss, 50.0))
    figures = {"accuracy": found.accuracy, "perplexity": perplexity, "loss": found.loss}
    signature = _signature(loaded)
    return num_texts, [Score(name, value, signature) for name, value in figures.items()]


def _encode(loaded: LoadedRun, test: HeldOutText) -> dict[str, list[list[int]]]:
    """Return the ids of both sides of the texts that are scored; only pairs have a second one."""
    config = loaded.config
    languages = config.data.test_languages[test.name]
    corpus = config.data.test_sets.get(test.name)  # none if it was taken from train
    is_text = languages[0] == languages[1] if corpus is None else config.is_text(corpus)
    warn_of_invalid(test.name, count_invalid(test.sources))
    if not is_text:
        warn_of_invalid(test.name, count_invalid(test.references))
    tokenizers = loaded.tokenizers.with_prefixes(config.tokenizer.prefixes(languages))
    encoded = encode(clean_pairs(test.sources, test.references), tokenizers, is_text)
    longest = config.data.filters.max_tokens
    fitting = [pair for pair in zip(*encoded, strict=True)
               if all(0 < len(ids) < longest for ids in pair)]  # fmt: skip
    rows = {side: [pair[place] for pair in fitting] for place, side in enumerate(SIDES)}
    return one_sided(rows) if is_text else rows


def _signature(loaded: LoadedRun) -> str:
    """Return what the masked tokens, and so the figures, depend on."""
    training = loaded.config.training
    settings = {
        "masked": f"{training.masked_share:g}",
        "whole_words": "yes" if training.mask_whole_words else "no",
        "vocab": loaded.tokenizers.source.vocab_size,
        "batch_tokens": training.batch_tokens,
        "precision": loaded.precision.name,
    }
    return "|".join(f"{key}:{value}" for key, value in settings.items())
