"""Count the spans of a source text that its translations give back verbatim, by kind.

Spans are those that `data.protect` can protect. A span counts once a line, however often the line
has it. `of these in the reference` are those that a human kept as well; the share is also given of
these alone. What `data.protect` brings, on the demo corpus and with as many updates:

    for protect in "[]" "[placeholders, tags]"; do
      run=runs/demo-$([ "$protect" = "[]" ] && echo before || echo after)
      options="--set run_dir=$run --set training.max_updates=400 --set training.max_minutes=60"
      mtrain prepare configs/demo.yaml $options --set "data.protect=$protect"
      mtrain train configs/demo.yaml $options --set "data.protect=$protect"
      mtrain translate $run data/home-assistant/en-de/test.en --output $run/test.de
      mtrain score $run
    done
    python scripts/kept_spans.py data/home-assistant/en-de/test.{en,de} runs/demo-*/test.de
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtrain.text.lines import clean_bytes, read_lines
from mtrain.text.spans import SPANS


def main() -> None:
    """Print a table for each translation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("source", "reference"):
        parser.add_argument(name, type=Path)
    parser.add_argument("translations", type=Path, nargs="+")
    arguments = parser.parse_args()
    sources, references = map(read_text, (arguments.source, arguments.reference))
    for path in arguments.translations:
        translations = read_text(path)
        if len({len(sources), len(references), len(translations)}) > 1:
            raise SystemExit(
                f"{path}: {len(translations)} lines, {arguments.source}: {len(sources)}, "
                f"{arguments.reference}: {len(references)}: line n of one must belong to line n "
                "of the others"
            )
        print(path)
        for kind in SPANS:
            print(f"  {describe(kind, sources, references, translations)}")


def read_text(path: Path) -> list[str]:
    """Return the lines of a file as a model sees them."""
    return list(map(clean_bytes, read_lines(path)))


def describe(
    kind: str, sources: Sequence[str], references: Sequence[str], translations: Sequence[str]
) -> str:
    """Return the counts of one kind of spans as a line."""
    in_reference, in_translation = [], []
    for source, reference, translation in zip(sources, references, translations, strict=True):
        for span in {found[0] for found in SPANS[kind].finditer(source)}:
            in_reference.append(span in reference)
            in_translation.append(span in translation)
    both = [kept for kept, wanted in zip(in_translation, in_reference, strict=True) if wanted]
    return (
        f"{kind:<13}{len(in_translation):>6} in the source, {share(in_translation)} kept; "
        f"{len(both)} of these in the reference, {share(both)} kept"
    )


def share(kept: Sequence[bool]) -> str:
    """Return how many are kept, also in percent."""
    return f"{sum(kept)} ({100 * sum(kept) / len(kept):.1f} %)" if kept else "none"


if __name__ == "__main__":
    main()
