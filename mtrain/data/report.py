"""The data report: what a manifest says, as text for a person."""

from collections.abc import Iterator
from typing import Any

from mtrain.text.filters import KEPT, REASONS


def describe_manifest(manifest: dict[str, Any]) -> str:
    """Return the data report as text."""
    train, valid = manifest["splits"]["train"], manifest["splits"]["valid"]
    tokens = train["tokens"]
    lines = [
        f"train    {train['pairs']:,} pairs kept of {manifest['read_pairs']:,} read, "
        f"{tokens['source']:,} source and {tokens['target']:,} target tokens",
        f"valid    {manifest['valid_pairs']:,} pairs"
        + (f", {valid['left_out_of_loss']} of them left out of the dev loss"
           if valid["left_out_of_loss"] else ""),
        *(f"test     {count:,} pairs in {name}" for name, count in manifest["tests"].items()),
        f"tokens   vocabulary of {train['vocab_size']:,}",
        *_describe_ceilings(manifest),
        *([_describe_links(train["links"])] if "links" in train else []),
        f"overlap  {manifest['train_sources_also_in_valid_or_test']:,} training sources also stand "
        "in valid or test" + _describe_kept(manifest.get("kept_pairs_also_in_valid_or_test", 0)),
    ]  # fmt: skip
    for entry in manifest["filtered"]:
        dropped = {reason: count for reason, count in entry["counts"].items()
                   if count and reason != REASONS[KEPT]}  # fmt: skip
        lines.append(f"corpus   {entry['corpus']}: {entry['counts'][REASONS[KEPT]]:,} kept")
        for reason, count in dropped.items():
            lines.append(f"         {count:,} dropped: {reason}, for example")
            lines += [f"           {s!r} | {t!r}" for s, t in entry["samples"][reason]]
    return "\n".join(lines)


def _describe_ceilings(manifest: dict[str, Any]) -> Iterator[str]:
    ceilings = manifest.get("ceilings", {})  # there once were none
    lowered = {name: told for name, told in ceilings.items() if told["changed"]}
    if ceilings and not lowered:
        yield "ceiling  none: the tokenizer can write every target line of valid and test"
    for name, told in lowered.items():
        sampled = f" on {told['scored']:,} of them" if told["scored"] < told["lines"] else ""
        yield (
            f"ceiling  {name}: the tokenizer cannot write {told['changed']:,} of {told['lines']:,} "
            f"target lines; at most BLEU {told['bleu']:.2f}, chrF {told['chrf']:.2f}{sampled}"
        )
        for wanted, written in told["examples"]:
            yield f"           {wanted!r} becomes {written!r}"
    settings = manifest["settings"]["tokenizer"]
    if lowered and settings["path"] is None and settings["normalization"] != "identity":
        yield (
            f"         tokenizer.normalization {settings['normalization']} rewrites these; "
            "identity keeps every character"
        )


def _describe_kept(pairs: int) -> str:
    kept = f", {pairs:,} with the same translation; data.filters.drop_overlap would leave these out"
    return kept if pairs else ""


def _describe_links(links: dict[str, int]) -> str:
    told = f"links    {links['count']:,} between the tokens of {links['pairs']:,} pairs"
    if links["lost"]:
        told += (
            f"; {links['lost']:,} pairs lost theirs: cleaning or normalising changed their words"
        )
    return told
