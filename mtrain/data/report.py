"""The data report: a manifest as readable text."""

from collections.abc import Iterator
from typing import Any

from mtrain.data.manifest import watch_split
from mtrain.data.protected import describe_protected
from mtrain.text.filters import KEPT, REASONS, WORDS, tell_pair


def describe_manifest(manifest: dict[str, Any]) -> str:
    """Return the data report as text."""
    train, valid = manifest["splits"]["train"], manifest["splits"]["valid"]
    chunks = manifest.get("chunks")  # only of documents
    num_kept = sum(entry["counts"][REASONS[KEPT]] for entry in manifest["filtered"])
    tokens, unit, read = train["tokens"], "pairs", "sources"
    told = f"{tokens['source']:,} source and {tokens['target']:,} target tokens"
    if manifest["settings"].get("learns_from_text"):
        told, unit, read = f"{sum(tokens.values()):,} tokens", "texts", "texts"
    lines = [
        f"train    {num_kept:,} {unit} kept of {manifest['read_pairs']:,} read, {told}",
        f"valid    {manifest['valid_pairs']:,} {unit}{_describe_origin(manifest, 'valid')}"
        f"{_describe_directions(valid)}{_describe_left_out(valid)}",
        *_describe_held_out(manifest, "valid"),
        *_describe_watch(manifest, unit),
        *(line for name, count in manifest["tests"].items()
          for line in (
              f"test     {count:,} {unit}{_describe_origin(manifest, 'test')} in {name}",
              *_describe_held_out(manifest, name))),
        f"tokens   vocabulary of {train['vocab_size']:,}",
        *_describe_ceilings(manifest),
        *([_describe_links(train["links"])] if "links" in train else []),
        *describe_protected(manifest.get("protected", {})),  # only with data.protect
        *([_describe_features(manifest["features"])] if "features" in manifest else []),
        *([_describe_teacher(manifest["teacher"])] if "teacher" in manifest else []),
        f"overlap  {manifest['train_sources_also_in_valid_or_test']:,} training {read} also stand "
        "in valid, watch or test"
        + _describe_kept(manifest.get("kept_pairs_also_in_valid_or_test", 0)),
    ]  # fmt: skip
    would_drop = manifest.get("would_drop", [])  # absent from old manifests
    for number, entry in enumerate(manifest["filtered"]):
        lines.append(f"corpus   {entry['corpus']}: {entry['counts'][REASONS[KEPT]]:,} kept")
        lines += _describe_chunks(chunks[number] if chunks else None)
        lines += _describe_looks(entry, entry["counts"]["identical"])
        for reason, count in entry["counts"].items():
            if count and reason != REASONS[KEPT]:
                lines.append(f"         {count:,} dropped: {reason}, for example")
                lines += _samples(entry, reason)
        lines += _describe_left_out_checks(would_drop[number] if would_drop else {})
    return "\n".join(lines)


def _describe_chunks(joined: dict[str, Any] | None) -> Iterator[str]:
    """Yield how many chunks were made of how many sentences: of 1, 2, 3-4, 5-8 and so on."""
    if joined is None:
        return
    by_size: dict[int, int] = {}  # by the power of two that holds it
    for size, count in joined["chunks"].items():
        most = 1 << (int(size) - 1).bit_length()
        by_size[most] = by_size.get(most, 0) + count
    words = {1: "1 sentence", 2: "2"}
    told = ", ".join(
        f"{count:,} of {words.get(most, f'{most // 2 + 1}-{most}')}"
        for most, count in sorted(by_size.items())
    )
    total = sum(by_size.values())
    yield f"         in {total:,} chunks of {joined['documents']:,} documents: {told}"


def _describe_directions(split: dict[str, Any]) -> str:
    lines: dict[str, int] = {}
    for part in split.get("parts", []):  # absent from old manifests
        direction = "-".join(dict.fromkeys((part["source_lang"], part["target_lang"])))
        lines[direction] = lines.get(direction, 0) + part["lines"]
    if len(lines) < 2:
        return ""
    return f" ({', '.join(f'{direction} {count:,}' for direction, count in lines.items())})"


def _describe_origin(manifest: dict[str, Any], section: str) -> str:
    is_taken = "from_train" in manifest["settings"]["data"].get(section, ())
    return " taken from train" if is_taken else ""


def _describe_left_out(split: dict[str, Any]) -> str:
    count = split["left_out_of_loss"]
    return f", {count} of them left out of the dev loss" if count else ""


def _describe_watch(manifest: dict[str, Any], unit: str) -> Iterator[str]:
    for name, count in manifest.get("watch", {}).items():  # absent from old manifests
        split = manifest["splits"][watch_split(name)]
        yield f"watch    {count:,} {unit} in {name}{_describe_left_out(split)}"
        yield from _describe_held_out(manifest, name)


def _describe_ceilings(manifest: dict[str, Any]) -> Iterator[str]:
    ceilings = manifest.get("ceilings", {})  # absent from old manifests
    lowered = {name: told for name, told in ceilings.items() if told["changed"]}
    if ceilings and not lowered:
        yield "ceiling  none: the tokenizer can write every target line of valid, watch and test"
    for name, told in lowered.items():
        sampled = f" on {told['scored']:,} of them" if told["scored"] < told["lines"] else ""
        yield (
            f"ceiling  {name}: the tokenizer cannot write {told['changed']:,} of {told['lines']:,} "
            f"target lines; at most BLEU {told['bleu']:.2f}, chrF {told['chrf']:.2f}{sampled}"
        )
        for wanted, written in told["examples"]:
            yield f"           {wanted!r} becomes {written!r}"
    settings = manifest["settings"]["tokenizer"]
    normalization = settings.get("normalization", "identity")
    if lowered and "path" not in settings and normalization != "identity":
        yield (
            f"         tokenizer.normalization {normalization} rewrites these; "
            "identity keeps every character"
        )


def _describe_held_out(manifest: dict[str, Any], name: str) -> Iterator[str]:
    """Yield the anomalies of a held-out set; they are reported, not dropped."""
    for entry in manifest.get("held_out", {}).get(name, []):  # absent from old ones
        yield from _describe_looks(entry)
        for reason in ("invalid_utf8", "empty"):
            if count := entry["counts"][reason]:
                yield f"         {count:,} {WORDS[reason]} in {entry['corpus']}, for example"
                yield from _samples(entry, reason)


def _describe_looks(entry: dict[str, Any], num_told: int = 0) -> Iterator[str]:
    """Yield a suspected header, and equal sides less the `num_told` reported as dropped."""
    if entry.get("header"):
        source, target = entry["header"]
        yield f"         the first looks like a header: {tell_pair(source, target)}"
    if (count := entry.get("same_text", 0) - num_told) > 0:
        yield f"         {count:,} have the same text on both sides in {entry['corpus']}"


def _describe_left_out_checks(found: dict[str, Any]) -> Iterator[str]:
    for check, told in found.items():
        source, target = told["example"]
        yield (
            f"         {told['count']:,} of the first {told['of']:,} pairs would be dropped with "
            f"data.filters.checks: [{check}], {WORDS[check]}, for example"
        )
        yield f"           {tell_pair(source, target)}"


def _samples(entry: dict[str, Any], reason: str) -> Iterator[str]:
    yield from (f"           {tell_pair(*pair)}" for pair in entry["samples"][reason])


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


def _describe_features(features: dict[str, Any]) -> str:
    told = (
        f"features {features['tokens']:,} states of width {features['width']}, layer "
        f"{features['layer']} of {features['model']}, {features['bytes'] / 1e9:,.3f} GB"
    )
    if features["long_lines"]:
        told += f"; {features['long_lines']:,} lines longer than it reads at once: read in parts"
    return told


def _describe_teacher(teacher: dict[str, Any]) -> str:
    return (
        f"teacher  {teacher['top_k']} likeliest tokens of {teacher['model']} at "
        f"{teacher['places']:,} places, {teacher['bytes'] / 1e9:,.3f} GB"
    )
