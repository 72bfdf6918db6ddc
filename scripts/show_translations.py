"""Print sentences with their translation and reference, spread evenly over three files."""

import argparse
from pathlib import Path


def main() -> None:
    """Read three line-aligned files and show every n-th triple."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("source", "translation", "reference"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--count", type=int, default=12)
    arguments = parser.parse_args()
    paths = arguments.source, arguments.translation, arguments.reference
    triples = list(zip(*(path.read_text("utf-8").split("\n")[:-1] for path in paths), strict=True))
    step = max(1, len(triples) // arguments.count)
    for triple in triples[step // 2 :: step][: arguments.count]:
        for label, text in zip(("source", "translated", "reference"), triple, strict=True):
            print(f"  {label:<11}{text}")
        print()


if __name__ == "__main__":
    main()
