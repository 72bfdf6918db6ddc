"""`mtrain attention`: a model's attention weights as a page, as pictures and as arrays."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mtrain.config import Config
from mtrain.config.model import BertConfig
from mtrain.console import progress, say, warn
from mtrain.data.folders import OpenedRun
from mtrain.decoding.forced import ForcedDecoder, IdPair
from mtrain.errors import UserError
from mtrain.evaluation.attention import SentenceAttention, merge_subwords, save_npz
from mtrain.evaluation.attention_page import write_page
from mtrain.evaluation.heatmaps import check_available, write_all_heads, write_heatmap
from mtrain.inference.load import LoadedRun, load_run
from mtrain.models import alignment_head
from mtrain.models.base import find_layer
from mtrain.text.lines import (
    STREAM,
    clean_lines,
    clean_pairs,
    decode_line,
    read_lines,
    warn_of_invalid,
)
from mtrain.text.streams import open_folder, read_stdin_once
from mtrain.text.tokenizer import WORD_START, TokenizerPair

END = "</s>"
BLOCK_LINES = 50
MAX_WEIGHTS = 50_000_000  # a page of 70 MB; browsers struggle with larger ones
LARGE = {"cross": "alignment", "decoder": "alignment", "encoder": "head"}  # picture of one head
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
    reads_text = opened[1].learns_from_text
    if reads_text:
        _check_text_request(opened[1], references)
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
        sentences = _read(loaded, lines) if reads_text else _translate(loaded, lines, targets)
        shown = _see_all(sentences, wants_words)
        if not shown:
            raise UserError(f"{input_path or 'stdin'}: there is not one line to show")
        _write(loaded, shown, output_dir, wants_pictures)


def _check_text_request(config: Config, references: Path | None) -> None:
    """Raise UserError for translations, or a head that a model which reads text does not have."""
    if references:
        raise UserError(
            f"--references: {config.run_dir} is a {config.model.type} model, which reads text in "
            "one language and does not translate",
            "leave --references out",
        )
    _large_picture(config)


def _see_all(sentences: Iterable[SentenceAttention], wants_words: bool) -> list[SentenceAttention]:
    """Return the attention of each line. Raises UserError if it is too much for one page."""
    shown: list[SentenceAttention] = []
    num_weights = 0
    for sentence in sentences:
        num_weights += sum(weights.size for weights in sentence.weights.values())
        if num_weights > MAX_WEIGHTS:
            raise UserError(
                f"the attention of the first {len(shown) + 1} lines is too much for one page",
                "choose some: head -n 20 INPUT | mtrain attention RUN --output DIR",
            )
        shown.append(merge_subwords(sentence) if wants_words else sentence)
    return shown


def _translate(
    loaded: LoadedRun, lines: Sequence[bytes], targets: Sequence[bytes] | None
) -> Iterator[SentenceAttention]:
    """Yield the attention of each line and its translation."""
    decoder = loaded.forced_decoder()
    for ids, text in _pairs(loaded, lines, targets, decoder.max_ids):
        yield see(loaded.prefixed_tokenizers, decoder, ids, text)


def see(
    tokenizers: TokenizerPair, decoder: ForcedDecoder, ids: IdPair, text: str = ""
) -> SentenceAttention:
    """Return the attention of one pair of id sequences, with its tokens; `text` is its source."""
    source, target = (
        [*tokenizer.pieces(list(side)), END]
        for tokenizer, side in zip((tokenizers.source, tokenizers.target), ids, strict=True)
    )
    return SentenceAttention(source, target, decoder.attention(ids, text))


def _read(loaded: LoadedRun, lines: Sequence[bytes]) -> Iterator[SentenceAttention]:
    """Yield the attention in each line of a model that reads text; skips empty lines, with a
    warning."""
    filler, tokenizer = loaded.filler(needs_head=False), loaded.tokenizers.source
    with progress("attending", len(lines), "lines") as shown:
        for line, ids in enumerate(filler.encode(lines), start=1):
            if len(ids) > filler.max_ids:
                raise _too_long(line, filler.max_ids)
            if ids:  # a mask is shown as a word of its own
                is_mask = [number == tokenizer.mask_id for number in ids]
                marked = zip(is_mask, tokenizer.pieces(ids), strict=True)
                pieces = [WORD_START * starts + piece for starts, piece in marked]
                yield SentenceAttention([*pieces, END], [], filler.attention(ids))
            else:
                _warn_of_empty(line)
            shown.advance(1)


def _pairs(
    loaded: LoadedRun, lines: Sequence[bytes], targets: Sequence[bytes] | None, max_ids: int
) -> Iterator[tuple[IdPair, str]]:
    """Yield the ids of each line and its translation, and the line.

    Warns of empty lines and skips them.
    """
    translator = loaded.translator()
    with progress("attending", len(lines), "lines") as shown:
        for start in range(0, len(lines), BLOCK_LINES):
            block = slice(start, start + BLOCK_LINES)
            texts, _ = clean_lines(lines[block])
            if targets is None:
                numbers = range(len(lines))[block]
                translations = translator.translate(lines[block], numbers=numbers)
                pairs: list[Sequence[IdPair]] = [found.segments for found in translations]
            else:
                pairs = loaded.encode_pairs(*clean_pairs(lines[block], targets[block]))
            for number, (segments, text) in enumerate(zip(pairs, texts, strict=True), start + 1):
                if len(segments) > 1 or any(max(map(len, pair)) > max_ids for pair in segments):
                    raise _too_long(number, max_ids)
                if not segments:
                    _warn_of_empty(number)
                yield from ((ids, text) for ids in segments)
                shown.advance(1)


def _large_picture(config: Config) -> tuple[int, int | None]:
    """Return layer and head, from 0, of the large picture of an encoder; None: mean of heads."""
    assert isinstance(config.model, BertConfig)
    head = alignment_head(config)
    layer = find_layer(head, config.model.encoder_layers, config.model.num_heads)
    return layer, None if head.head is None else head.head - 1


def _alignment_picture(loaded: LoadedRun) -> tuple[int, int | None]:
    """Return layer and head, from 0, of the picture of an alignment; None: mean of heads."""
    head = alignment_head(loaded.config)
    layer = loaded.translation_model.layer_of(head)
    return layer, None if head.head is None else head.head - 1


def _too_long(number: int, max_ids: int) -> UserError:
    return UserError(
        f"line {number} is longer than the {max_ids} tokens that this model reads at once",
        "leave it out, or cut it into sentences",
    )


def _warn_of_empty(number: int) -> None:
    warn(f"line {number} is empty: nothing to show of it")


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
    config, title = loaded.config, loaded.config.run_dir.name
    if not config.learns_from_text:
        title += f": {' to '.join(config.languages)}"
    write_page(folder / PAGE, shown, title)
    save_npz(folder / ARRAYS, shown)
    written = [PAGE, ARRAYS]
    if wants_pictures:
        layer, head = (_large_picture(config) if config.learns_from_text else
                       _alignment_picture(loaded))  # fmt: skip
        with progress("drawing", len(shown), "sentences") as drawn:
            for number, sentence in enumerate(shown, start=1):
                for kind in sentence.weights:
                    write_all_heads(folder / f"{number:04}-{kind}.png", sentence, kind)
                kind = next(kind for kind in LARGE if kind in sentence.weights)
                picture = folder / f"{number:04}-{LARGE[kind]}.png"
                write_heatmap(picture, sentence, kind, layer, head)
                drawn.advance(1)
        written.append(f"{len(list(folder.glob(PICTURES)))} pictures")
    say(f"{folder}: {', '.join(written)} of {len(shown)} sentences")
