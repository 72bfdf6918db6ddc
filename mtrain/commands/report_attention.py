"""Alignments of a few translations of valid, for the report of a run."""

from collections.abc import Sequence

from mtrain.commands.attention import END
from mtrain.evaluation.attention import SentenceAttention, merge_subwords
from mtrain.evaluation.report.alignments import Heatmap
from mtrain.evaluation.scored import SetTexts
from mtrain.inference.load import LoadedRun
from mtrain.text.lines import clean_pairs

NUM_SENTENCES = 3  # of all directions together
CHARACTERS = 40  # of a source: long enough to show something, short enough for a phone
MOST_PIECES = 40  # of a side


def see_alignments(loaded: LoadedRun, texts: Sequence[SetTexts]) -> list[Heatmap]:
    """Return the attention of some translations over their sources, word by word.

    Raises UserError if the model has no attention over the source.
    """
    shown = texts[:NUM_SENTENCES]
    count = max(1, NUM_SENTENCES // max(1, len(shown)))
    return [heatmap for each in shown for heatmap in _of_direction(loaded, each, count)]


def _of_direction(loaded: LoadedRun, texts: SetTexts, count: int) -> list[Heatmap]:
    if len(loaded.config.data.directions) > 1:
        source_lang, target_lang = texts.languages
        loaded = loaded.with_decoding(source_lang=source_lang, target_lang=target_lang)
    decoder, tokenizers = loaded.forced_decoder(), loaded.prefixed_tokenizers
    sources, targets = clean_pairs(*_chosen(texts))
    found = {}
    for row, (ids, source) in enumerate(zip(loaded.encode_pairs(sources, targets), sources,
                                            strict=True)):  # fmt: skip
        if ids and all(len(side) < min(MOST_PIECES, decoder.max_ids) for side in ids[0]):
            found[row] = ids[0], source
    chosen = list(found.values())[:count]
    pairs, read = [pair for pair, _ in chosen], [source for _, source in chosen]
    heatmaps: dict[int, Heatmap] = {}
    for row, weights in decoder.alignments(pairs, read) if pairs else ():
        source_pieces, target_pieces = (
            [*tokenizer.pieces(list(side)), END]
            for tokenizer, side in zip(
                (tokenizers.source, tokenizers.target), pairs[row], strict=True
            )
        )
        attention = {"cross": weights[None, None]}
        words = merge_subwords(SentenceAttention(source_pieces, target_pieces, attention))
        heatmaps[row] = Heatmap(*words.axes("cross"), words.matrix("cross"))
    return [heatmaps[row] for row in sorted(heatmaps)]


def _chosen(texts: SetTexts) -> tuple[list[bytes], list[bytes]]:
    """Return some sources of about CHARACTERS, the nearest first, and their translations."""
    assert texts.sources is not None
    sources, targets = texts.sources, texts.hypotheses
    rows = [row for row, target in enumerate(targets) if sources[row].strip() and target]
    rows.sort(key=lambda row: (abs(len(sources[row]) - CHARACTERS), row))
    nearest = rows[: 10 * NUM_SENTENCES]
    return [sources[row].encode() for row in nearest], [targets[row].encode() for row in nearest]
