"""sacreBLEU's own test sets, from the folder where `sacrebleu` keeps them. Nothing is fetched."""

from pathlib import Path

from mtrain.errors import UserError
from mtrain.evaluation.metrics import TEST_SETS, chosen_references
from mtrain.evaluation.scored import SetTexts
from mtrain.text.lines import decode_lines, read_lines


def read_test_set(name: str, folder: Path = TEST_SETS) -> SetTexts:
    """Return the sources and the references of NAME:PAIR, such as wmt14:en-de.

    Of several references they are those that sacreBLEU scores with.

    Raises UserError if the name has another form or the set is not in the folder.
    """
    stem, _, pair = name.partition(":")
    source_lang, _, target_lang = pair.partition("-")
    if not (stem and source_lang and target_lang):
        raise UserError(
            f"--test-set {name}: expected a set of sacreBLEU and a direction",
            "such as wmt14:en-de; the sets: sacrebleu --list",
        )
    beginning = f"{stem.replace('/', '_')}.{pair}."
    source_path = folder / stem / f"{beginning}src"
    chosen = {field.replace(":", "-") for field in chosen_references(stem, pair)}
    reference_paths = [path for path in sorted((folder / stem).glob(f"{beginning}ref*"))
                       if not chosen or path.name.removeprefix(beginning) in chosen]  # fmt: skip
    if not (source_path.is_file() and reference_paths):
        raise UserError(
            f"--test-set {name}: it is not on this machine (looked for {source_path})",
            f"fetch it once: sacrebleu -t {stem} -l {pair} --echo src ref > /dev/null",
        )
    sources, *references = (
        decode_lines(read_lines(path)) for path in (source_path, *reference_paths)
    )
    for path, lines in zip(reference_paths, references, strict=True):
        if len(lines) != len(sources) or not lines:
            raise UserError(
                f"{path} has {len(lines)} lines but {source_path} has {len(sources)}",
                f"remove {folder / stem} and fetch the set again",
            )
    return SetTexts(name, (source_lang, target_lang), sources, references)
