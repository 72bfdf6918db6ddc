"""`mtrain compare`: two runs side by side, and whether one translates significantly better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mtrain.commands.run_facts import RunFacts, score_tests_of
from mtrain.commands.score_tests import own_tests
from mtrain.config.compare import Differences, differences
from mtrain.data.folders import OpenedRun
from mtrain.data.identity import same_contents
from mtrain.evaluation.metrics import PairedScore, compare
from mtrain.evaluation.scored import SetTexts
from mtrain.evaluation.worse import WorseSentence, worst_sentences
from mtrain.inference.load import load_run
from mtrain.text.filters import KEPT, REASONS

PLACES = ("run_dir", "data_dir")  # two runs always differ in these
DIGITS = 12  # shown of a digest


@dataclass(frozen=True)
class CurvePoint:
    """The dev figures of both runs after the same number of updates; None where not validated."""

    update: int
    score: tuple[float | None, float | None]
    loss: tuple[float | None, float | None]


@dataclass(frozen=True)
class Course:
    """How the training of a run went; None where its log does not say."""

    best: float | None  # dev score
    best_update: int | None
    updates: int | None
    minutes: float | None
    target_tokens: int | None


@dataclass(frozen=True)
class ComparedSet:
    """A set that both runs translated: the first is the baseline."""

    name: str
    direction: str
    sentences: int
    scores: Sequence[PairedScore]
    worse: Sequence[WorseSentence]  # in the second run
    better: Sequence[WorseSentence]


@dataclass(frozen=True)
class Compared:
    """All that two runs differ in."""

    runs: tuple[str, str]
    configuration: Differences
    data: Differences
    metric: str  # of the curve
    curve: Sequence[CurvePoint]
    courses: tuple[Course, Course]
    sets: Sequence[ComparedSet]
    not_compared: Sequence[str]  # why not, a sentence each


def compare_runs(
    first: OpenedRun, second: OpenedRun, on_tests: bool, overrides: Sequence[str] | None
) -> Compared:
    """Compare two runs that `open_comparable` has opened; the first is the baseline.

    They are compared on valid, or on the test sets, where these are the same sentences.
    """
    facts = RunFacts.of(first), RunFacts.of(second)
    one, other = facts
    metric = _metric(one, other)
    configurations = [each.config.model_dump(mode="json", exclude=set(PLACES)) for each in facts]
    sets, reasons = _compare_sets(facts, on_tests, overrides)
    return Compared(
        (str(one.run.path), str(other.run.path)),
        differences(*configurations),
        _data_differences(one, other),
        metric,
        _curve(one, other, metric),
        (_course(one, metric), _course(other, metric)),
        sets,
        reasons,
    )


def _metric(one: RunFacts, other: RunFacts) -> str:
    chosen = {each.config.training.valid_metric for each in (one, other)}
    if len(chosen) == 1:
        return chosen.pop()
    return "loss" if one.config.learns_from_text else "bleu"


def _curve(one: RunFacts, other: RunFacts, metric: str) -> list[CurvePoint]:
    """Return the validations at updates that both have; of both, if they share less than two."""
    by_update = [
        {event["update"]: event for event in each.validations if not event.get("averaged")}
        for each in (one, other)
    ]
    updates = by_update[0].keys() & by_update[1].keys()
    if len(updates) < 2:
        updates = by_update[0].keys() | by_update[1].keys()

    def of_both(update: int, figure: str) -> tuple[float | None, float | None]:
        found = [events.get(update, {}).get(figure) for events in by_update]
        return found[0], found[1]

    return [CurvePoint(update, of_both(update, metric), of_both(update, "loss"))
            for update in sorted(updates)]  # fmt: skip


def _course(facts: RunFacts, metric: str) -> Course:
    last = facts.events[-1] if facts.events else {}
    return Course(
        facts.validation.get(metric),
        facts.best_update,
        last.get("update"),
        last.get("minutes"),
        last.get("target_tokens"),
    )


def _data_differences(one: RunFacts, other: RunFacts) -> Differences:
    manifests = one.manifest, other.manifest
    is_same = None not in manifests and same_contents(manifests[0] or {}, manifests[1] or {})
    return differences(*(_data(each, names_files=not is_same) for each in (one, other)))


def _data(facts: RunFacts, names_files: bool) -> dict[str, Any]:
    """Return what a run was trained on; without the manifest, its checkpoint's digests alone."""
    identity, manifest = facts.state.get("identity", {}), facts.manifest
    data: dict[str, Any] = {
        "training tokens": _short(identity.get("store")),
        "tokenizer": _short(identity.get("tokenizers")),
    }
    if manifest is None:
        return data | {"known": "no data.json in the run folder"}
    train = manifest["splits"]["train"]
    data |= {
        "vocabulary": train["vocab_size"],
        "pairs": {"read": manifest["read_pairs"], "valid": manifest["valid_pairs"],
                  "test": manifest["tests"], "watch": manifest.get("watch", {})},
        "tokens": train["tokens"],
        "corpora": [_corpus(each, names_files) for each in manifest["filtered"]],
    }  # fmt: skip
    if names_files:
        data["files"] = {entry["path"]: _short(entry.get("sha256"))
                         for entry in manifest["inputs"] if "path" in entry}  # fmt: skip
    return data


def _corpus(ledger: Mapping[str, Any], names_files: bool) -> dict[str, Any]:
    dropped = dict(ledger["counts"])
    kept = dropped.pop(REASONS[KEPT])
    name = {"name": ledger["corpus"]} if names_files else {}
    return {**name, "kept": kept, "dropped": dropped}


def _short(digest: str | None) -> str | None:
    return digest and digest[:DIGITS]


def _compare_sets(
    facts: tuple[RunFacts, RunFacts], on_tests: bool, overrides: Sequence[str] | None
) -> tuple[list[ComparedSet], list[str]]:
    """Return the sets that both runs translate, and why others are not compared."""
    if facts[0].config.learns_from_text:
        return [], ["models that fill masked tokens are compared by their curves alone"]
    lacking = [each.run.path for each in facts if each.best is None]
    if lacking:
        return [], [f"{path} has no checkpoint yet" for path in lacking]
    return (_on_tests if on_tests else _on_valid)(facts, overrides)


def _on_valid(
    facts: tuple[RunFacts, RunFacts], _: Sequence[str] | None
) -> tuple[list[ComparedSet], list[str]]:
    known = [each.valid_untranslated() for each in facts]
    gone = [f"the texts of valid of {each.run.path} are neither in its valid.json nor in "
            f"{each.config.data_path}" for each, texts in zip(facts, known, strict=True)
            if not texts]  # fmt: skip
    if gone:
        return [], gone
    pairs, reasons = _same_sentences(known[0], known[1], facts)
    if not pairs:
        return [], reasons
    translated = [
        each.valid_texts(partial(load_run, each.run, each.config, None)) for each in facts
    ]
    pairs, reasons = _same_sentences(translated[0], translated[1], facts)
    return [_compare_set(*pair) for pair in pairs], reasons


def _on_tests(
    facts: tuple[RunFacts, RunFacts], overrides: Sequence[str] | None
) -> tuple[list[ComparedSet], list[str]]:
    known = [_test_sets(each) for each in facts]
    if lacking := [f"{each.run.path} has no test set"
                   for each, texts in zip(facts, known, strict=True) if not texts]:  # fmt: skip
        return [], lacking
    pairs, reasons = _same_sentences(known[0], known[1], facts)
    if not pairs:
        return [], reasons
    translated = []
    for each in facts:
        scored = score_tests_of(each, overrides)
        translated.append([entry.texts for entry in scored if entry.texts is not None])
    pairs, reasons = _same_sentences(translated[0], translated[1], facts)
    return [_compare_set(*pair) for pair in pairs], reasons


def _test_sets(facts: RunFacts) -> list[SetTexts]:
    """Return the test sets of a run, not translated."""
    return [test.texts for test in own_tests(facts.run.test_sets(facts.config), facts.config)]


def _same_sentences(
    ours: Sequence[SetTexts], theirs: Sequence[SetTexts], facts: tuple[RunFacts, RunFacts]
) -> tuple[list[tuple[SetTexts, SetTexts]], list[str]]:
    """Return the sets of both runs with the same sentences, and why others have no partner."""
    pairs, reasons = [], []
    for each in ours:
        same = [other for other in theirs if _content(other) == _content(each)]
        if same:
            pairs.append((each, same[0]))
            continue
        told = f"{each.name} {each.direction}"
        named = [other for other in theirs
                 if (other.name, other.languages) == (each.name, each.languages)]  # fmt: skip
        if named:
            lines = [len(texts.references[0]) for texts in (each, named[0])]
            reasons.append(
                f"{told} is not the same sentences in both runs ({lines[0]:,} and {lines[1]:,} "
                "lines), so they are not compared on it"
            )
        else:
            reasons.append(f"{facts[1].run.path} has no set like {told} of {facts[0].run.path}")
    return pairs, reasons


def _content(texts: SetTexts) -> tuple[Any, ...]:
    references = [list(lines) for lines in texts.references]
    return texts.languages, list(texts.sources or ()), references


def _compare_set(baseline: SetTexts, now: SetTexts) -> ComparedSet:
    before, after = baseline.hypotheses, now.hypotheses
    better = worst_sentences(now.sources, now.references, after, before)
    return ComparedSet(
        now.name,
        now.direction,
        len(after),
        compare(after, before, now.references, now.languages[1]),
        worst_sentences(now.sources, now.references, before, after),
        [replace(each, before=each.now, now=each.before, score_before=each.score_now,
                 score_now=each.score_before) for each in better],
    )  # fmt: skip
