"""`mtrain attention`: a model's attention weights as a page, as pictures and as arrays."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mtrain.console import progress, say, warn
from mtrain.data.folders import OpenedRun
from mtrain.decoding.forced import ForcedDecoder, IdPair
from mtrain.errors import UserError
from mtrain.evaluation.attention import SentenceAttention, merge_subwords, save_npz
from mtrain.evaluation.attention_page import write_page
from mtrain.evaluation.heatmaps import check_available, write_all_heads, write_heatmap
from mtrain.inference.load import LoadedRun, load_run
from mtrain.models import alignment_head
from mtrain.text.lines import STREAM, clean_pairs, decode_line, read_lines, warn_of_invalid
from mtrain.text.streams import open_folder, read_stdin_once
from mtrain.text.tokenizer import TokenizerPair

END = "</s>"
BLOCK_LINES = 50
MAX_WEIGHTS = 50_000_000  # a page of 70 MB; browsers struggle with larger ones
PAGE, ARRAYS, PICTURES = "attention.html", "attention.npz", "[0-9]*-*.png"


def show_attention(
    opened: OpenedRun,
    input_path: Path | None,
    references: Path | None,
    output_dir: Path,
    wants_words: bool,
    wants_pictures: bool,
    checkpoint_name: str | None,
) -> None:
    """Write the attention for each line and its translation into a folder.

    Translations come from the model, or from `references` by forced decoding.
    """
    if wants_pictures:
        check_available("drawing pictures (left out with --no-pictures)")
    _check_folder(output_dir)
    read_stdin_once(input_path or STREAM, references)
    lines = list(read_lines(input_path))
    targets = list(read_lines(references)) if references else None
    if targets is not None and len(targets) != len(lines):
        raise UserError(
            f"{references} has {len(targets)} lines but {input_path or 'stdin'} has {len(lines)}",
            "line n of one must be the translation of line n of the other",
        )
    for name, side in ((input_path or "stdin", lines), (references, targets or ())):
        warn_of_invalid(name, sum(not decode_line(line)[1] for line in side))
    with open_folder(output_dir):
        loaded = load_run(*opened, checkpoint_name)
        shown = _see_all(loaded, lines, targets, wants_words)
        if not shown:
            raise UserError(f"{input_path or 'stdin'}: there is not one line to show")
        _write(loaded, shown, output_dir, wants_pictures)


def _see_all(
    loaded: LoadedRun,
    lines: Sequence[bytes],
    targets: Sequence[bytes] | None,
    wants_words: bool,
) -> list[SentenceAttention]:
    """Return the attention of each line. Raises UserError if it is too much for one page."""
    decoder = loaded.forced_decoder()
    shown: list[SentenceAttention] = []
    num_weights = 0
    for ids in _pairs(loaded, lines, targets, decoder.max_ids):
        sentence = see(loaded.prefixed_tokenizers, decoder, ids)
        num_weights += sum(weights.size for weights in sentence.weights.values())
        if num_weights > MAX_WEIGHTS:
            raise UserError(
                f"the attention of the first {len(shown) + 1} lines is too much for one page",
                "choose some: head -n 20 INPUT | mtrain attention RUN --output DIR",
            )
        shown.append(merge_subwords(sentence) if wants_words else sentence)
    return shown


def see(tokenizers: TokenizerPair, decoder: ForcedDecoder, ids: IdPair) -> SentenceAttention:
    """Return the attention of one pair of id sequences, with its tokens."""
    source, target = (
        [*tokenizer.pieces(list(side)), END]
        for tokenizer, side in zip((tokenizers.source, tokenizers.target), ids, strict=True)
    )
    return SentenceAttention(source, target, decoder.attention(ids))


def _pairs(
    loaded: LoadedRun, lines: Sequence[bytes], targets: Sequence[bytes] | None, max_ids: int
) -> Iterator[IdPair]:
    """Yield the ids of each line and its translation; warns of empty lines and skips them."""
    translator = loaded.translator()
    with progress("attending", len(lines), "lines") as shown:
        for start in range(0, len(lines), BLOCK_LINES):
            block = slice(start, start + BLOCK_LINES)
            if targets is None:
                translations = translator.translate(lines[block])
                pairs: list[Sequence[IdPair]] = [found.segments for found in translations]
            else:
                pairs = loaded.encode_pairs(*clean_pairs(lines[block], targets[block]))
            for number, segments in enumerate(pairs, start + 1):
                if len(segments) > 1 or any(max(map(len, pair)) > max_ids for pair in segments):
                    raise UserError(
                        f"line {number} is longer than the {max_ids} tokens that this model reads "
                        "at once",
                        "leave it out, or cut it into sentences",
                    )
                if not segments:
                    warn(f"line {number} is empty: nothing to show of it")
                yield from segments
                shown.advance(1)


def _check_folder(folder: Path) -> None:
    """Raise UserError for stdout, a file, or a folder with content other than an earlier result."""
    if folder == STREAM:
        raise UserError("--output takes a folder: a page and arrays cannot go to stdout")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: this is a file; --output takes a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PAGE).is_file():
        raise UserError(
            f"{folder}: this folder holds other things", "give --output a folder of its own"
        )


def _write(
    loaded: LoadedRun, shown: list[SentenceAttention], folder: Path, wants_pictures: bool
) -> None:
    for outdated in (*folder.glob(PICTURES), folder / ARRAYS):
        outdated.unlink(missing_ok=True)
    languages = loaded.config.languages
    write_page(folder / PAGE, shown, f"{loaded.config.run_dir.name}: {' to '.join(languages)}")
    save_npz(folder / ARRAYS, shown)
    written = [PAGE, ARRAYS]
    if wants_pictures:
        head = alignment_head(loaded.config)
        layer = loaded.translation_model.layer_of(head)
        with progress("drawing", len(shown), "sentences") as drawn:
            for number, sentence in enumerate(shown, start=1):
                for kind in sentence.weights:
                    write_all_heads(folder / f"{number:04}-{kind}.png", sentence, kind)
                kind = "cross" if "cross" in sentence.weights else "decoder"
                picture = folder / f"{number:04}-alignment.png"
                chosen = None if head.head is None else head.head - 1
                write_heatmap(picture, sentence, kind, layer, chosen)
                drawn.advance(1)
        written.append(f"{len(list(folder.glob(PICTURES)))} pictures")
    say(f"{folder}: {', '.join(written)} of {len(shown)} sentences")
