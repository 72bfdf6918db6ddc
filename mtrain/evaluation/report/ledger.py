"""What `prepare` made of the data: corpora, what each filter dropped and why, held-out sets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mtrain.data.manifest import watch_split
from mtrain.data.report import describe_manifest
from mtrain.evaluation.report.markup import (
    Html,
    details,
    element,
    join,
    prose,
    section,
    table,
    text_of_user,
)
from mtrain.text.filters import KEPT, REASONS, WORDS

TITLE = "Data ledger"


def ledger_section(manifest: Mapping[str, Any] | None, missing: str) -> Html:
    """Return the ledger of a manifest, or what is missing."""
    if manifest is None:
        return section(TITLE, prose(missing))
    unit = "texts" if manifest["settings"].get("learns_from_text") else "pairs"
    repeated = manifest["train_sources_also_in_valid_or_test"]
    return section(
        TITLE,
        table(
            ["training corpus", f"{unit} read", "kept", "dropped"],
            map(_corpus_row, manifest["filtered"]),
        ),
        *_dropped(manifest["filtered"]),
        table(["", unit, "tokens", f"tokens a {unit[:-1]}"], _set_rows(manifest, unit)),
        prose(
            f"Vocabulary: {manifest['splits']['train']['vocab_size']:,} pieces. {repeated:,} "
            "training sources also stand in valid, watch or test"
            + (", which raises scores." if repeated else ".")
        ),
        details("The whole report of prepare", element("pre", describe_manifest(dict(manifest)))),
    )


def _corpus_row(ledger: Mapping[str, Any]) -> list[str]:
    kept = ledger["counts"][REASONS[KEPT]]
    seen = ledger.get("seen", sum(ledger["counts"].values()))
    return [text_of_user(ledger["corpus"]), f"{seen:,}", f"{kept:,}", f"{seen - kept:,}"]


def _dropped(ledgers: Sequence[Mapping[str, Any]]) -> Iterator[Html]:
    """Yield a table of what filters dropped, with an example each, if they dropped something."""
    rows = []
    for ledger in ledgers:
        for reason, count in ledger["counts"].items():
            if count and reason != REASONS[KEPT]:
                examples = ledger["samples"].get(reason, ())[:1]
                name = [text_of_user(ledger["corpus"]), ": "] if len(ledgers) > 1 else []
                rows.append([
                    join([*name, WORDS.get(reason, reason)]), f"{count:,}",
                    join([_pair(*example) for example in examples]),
                ])  # fmt: skip
    if rows:
        yield table(["dropped because", "count", "for example"], rows)


def _pair(source: str, target: str) -> Html:
    if source == target:
        return text_of_user(source, "div")
    return join([text_of_user(source, "div"), text_of_user(target, "div")])


def _set_rows(manifest: Mapping[str, Any], unit: str) -> Iterator[list[str]]:
    splits = manifest["splits"]
    num_kept = sum(ledger["counts"][REASONS[KEPT]] for ledger in manifest["filtered"])
    yield ["train", f"{num_kept:,}", *_tokens(splits["train"], num_kept, unit)]
    yield ["valid", f"{manifest['valid_pairs']:,}", *_tokens(splits["valid"], None, unit)]
    for name, count in manifest.get("watch", {}).items():
        split = splits[watch_split(name)]
        yield [f"watch: {name}", f"{count:,}", *_tokens(split, None, unit)]
    for name, count in manifest["tests"].items():
        yield [f"test: {name}", f"{count:,}", "", ""]


def _tokens(split: Mapping[str, Any], num_pairs: int | None, unit: str) -> tuple[str, str]:
    """Return the tokens of a split, and their mean, on both sides."""
    tokens = split["tokens"]
    count = num_pairs or split["pairs"]
    if unit == "texts":
        total = sum(tokens.values())
        return f"{total:,}", f"{total / max(1, count):.1f}"
    sides = tokens["source"], tokens["target"]
    return (
        " + ".join(f"{side:,}" for side in sides),
        " + ".join(f"{side / max(1, count):.1f}" for side in sides),
    )
