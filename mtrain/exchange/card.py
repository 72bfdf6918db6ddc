"""The model card of the Hugging Face Hub: what a model is, learnt from, scored, and its use."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from mtrain import __version__
from mtrain.config import Config
from mtrain.config.corpora import HubDataset
from mtrain.config.model import BertConfig
from mtrain.config.protection import name_of
from mtrain.evaluation.metrics import Score
from mtrain.exchange.huggingface.bert_format import long_texts
from mtrain.text.protection import PIECES

METRIC_TYPES = {"BLEU": "bleu", "chrF2": "chrf", "TER": "ter"}  # names on the Hub


@dataclass(frozen=True)
class TestScores:
    """The scores of one test set."""

    name: str
    sentences: int
    scores: Sequence[Score]


@dataclass(frozen=True)
class Facts:
    """What the card tells of a run."""

    config: Config
    num_parameters: int
    num_updates: int
    manifest: Mapping[str, Any]  # of the prepared data; empty if they are not here
    tests: Sequence[TestScores]
    is_check_passed: bool
    imported_from: str | None = None  # the model that an untrained run was made of
    validation: Mapping[str, Any] | None = None  # the checkpoint's, on the valid set

    @property
    def is_bert(self) -> bool:
        """Whether the model predicts masked tokens, and does not translate."""
        return self.config.model.type == "bert"

    @property
    def languages(self) -> list[str]:
        """The languages that the model translates from and to, or those of its texts."""
        config = self.config
        known = chain(*config.data.directions) if self.is_bert else config.languages
        return [language for language in dict.fromkeys(known) if language]


def write_card(folder: Path, name: str, facts: Facts) -> None:
    """Write README.md, with the scores as the Hub reads them, for a model of this name."""
    task = "fill-mask" if facts.is_bert else "translation"
    front: dict[str, Any] = {
        "language": facts.languages,
        "library_name": "transformers",
        "pipeline_tag": task,
        "tags": [task, "mtrain"],
    }
    if facts.tests:
        front["model-index"] = [{"name": name, "results": [_indexed(test) for test in facts.tests]}]
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {name}",
        f"{_purpose(facts)} {_origin(facts)}",
        _architecture(facts),
        _data(facts),
        _predictions(facts) if facts.is_bert else _scores(facts),
        _usage_of_bert(name, facts) if facts.is_bert else _usage(name, facts),
    ]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    _write_results_of_benchmarks(folder / ".eval_results", facts)


def _write_results_of_benchmarks(folder: Path, facts: Facts) -> None:
    """Write the BLEU on test sets that are data sets of the Hub, as its benchmarks read it.

    The Hub counts a result whose task, here the data set's configuration, the benchmark defines.
    """
    on_hub = {name: corpus for name, corpus in facts.config.data.test_sets.items()
              if isinstance(corpus, HubDataset) and not Path(corpus.hub).exists()}  # fmt: skip
    for test in facts.tests:
        if test.name in on_hub:
            corpus = on_hub[test.name]
            results = [
                {
                    "dataset": {"id": corpus.hub, "task_id": corpus.config or "default"},
                    "value": round(score.value, 2),
                    "notes": f"{score.name}, split {corpus.split}, {score.signature}",
                }
                for score in test.scores
                if score.name == "BLEU"
            ]
            folder.mkdir(exist_ok=True)
            path = folder / f"{test.name}.yaml"
            path.write_text(yaml.safe_dump(results, sort_keys=False), "utf-8")


def _indexed(test: TestScores) -> dict[str, Any]:
    """Return a test set's scores in the Hub's `model-index`."""
    return {
        "task": {"type": "translation"},
        "dataset": {"name": test.name, "type": test.name},
        "metrics": [
            {"type": METRIC_TYPES.get(score.name, score.name), "name": score.name,
             "value": round(score.value, 2), "args": {"signature": score.signature}}
            for score in test.scores
        ],
    }  # fmt: skip


def _purpose(facts: Facts) -> str:
    if facts.is_bert:
        languages = ", ".join(facts.languages)
        return f"Predicts masked tokens of text{f' in {languages}' if languages else ''}."
    source, target = facts.config.languages
    return f"Translates {source} to {target}."


def _origin(facts: Facts) -> str:
    if facts.imported_from:
        return f"Imported from {facts.imported_from} and exported with mtrain {__version__}."
    return f"Trained with mtrain {__version__}."


def _architecture(facts: Facts) -> str:
    model = facts.config.model
    settings = model.model_dump(exclude={"init_from"})
    origin = f", started from the run {model.base.run.name}" if model.base else ""
    rows = [[f"`{key}`", value] for key, value in settings.items()]
    return (
        f"## Model\n\n{facts.num_parameters:,} parameters, after {facts.num_updates:,} updates"
        f"{origin}.\n\n" + _table(["`model`", "value"], rows)
    )


def _data(facts: Facts) -> str:
    title, manifest = "## Training data\n\n", facts.manifest
    if not manifest:
        return f"{title}The prepared data were not at hand when this card was written."
    rows, num_kept = [], 0
    for corpus in manifest["filtered"]:
        counts = dict(corpus["counts"])
        kept = counts.pop("kept")
        num_kept += kept
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in counts.items() if count)
        name = " + ".join(Path(part).name for part in corpus["corpus"].split(" + "))
        rows.append([name, f"{corpus['seen']:,}", f"{kept:,}", dropped])
    kind = "texts" if facts.is_bert else "pairs"
    told = f"{num_kept:,} {kind}."
    if seen := manifest.get("train_sources_also_in_valid_or_test"):
        told += f" {seen:,} training sources are also in valid, watch or test, which raises scores."
    return f"{title}{told}\n\n" + _table(["corpus", kind, "kept", "dropped"], rows)


def _scores(facts: Facts) -> str:
    if not facts.tests:
        return "## Scores\n\nThis run has no test set."
    rows = [
        [test.name, f"{test.sentences:,}", score.name, f"{score.value:.2f}", f"`{score.signature}`"]
        for test in facts.tests
        for score in test.scores
    ]
    header = ["test set", "sentences", "metric", "value", "sacreBLEU signature"]
    return f"## Scores\n\nBy mtrain's own search.\n\n{_table(header, rows)}"


def _predictions(facts: Facts) -> str:
    """Return how well the model predicts masked tokens of the valid set."""
    found = facts.validation or {}
    if "accuracy" not in found:
        return "## Scores\n\nThis model was not validated here."
    rows = [
        ["masked tokens predicted", f"{found['accuracy']:.1f} %"],
        ["perplexity of masked tokens", f"{math.exp(found['loss']):.1f}"],
    ]
    share = facts.config.training.masked_share
    return f"## Scores\n\nOn the valid set, with {share:.0%} of the tokens masked.\n\n" + _table(
        ["measure", "value"], rows
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    escaped = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _usage_of_bert(name: str, facts: Facts) -> str:
    model = facts.config.model
    assert isinstance(model, BertConfig)
    check = (
        "mtrain checked that `transformers` gives the same hidden states and log probabilities of "
        "masked tokens as mtrain for a sample of the test or valid set."
        if facts.is_check_passed
        else "This export was not checked with `transformers`."
    )
    if model.encoder_attention.is_sparse:
        check += f"\n\nLong texts: {long_texts(model.encoder_attention)}."
    return f"""## Use

{check}

```python
from transformers import pipeline

fill = pipeline("fill-mask", model="{name}")
print([guess["token_str"] for guess in fill(f"A {{fill.tokenizer.mask_token}} runs.")])
```
"""


def _usage(name: str, facts: Facts) -> str:
    check = (
        "mtrain checked that `transformers` gives the same ids, log probabilities and greedy "
        "translations as mtrain for a sample of the test or valid set."
        if facts.is_check_passed
        else "This export was not checked with `transformers`."
    )
    return f"""## Use

{check}
{_usage_of_protection(facts)}
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForSeq2SeqLM.from_pretrained("{name}")
batch = tokenizer(["A sentence.", "Another one."], return_tensors="pt", padding=True)
print(tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True))
```

With the run that this folder was exported from, mtrain translates files and exports to CTranslate2:

```sh
mtrain translate RUN input.txt --output output.txt
mtrain export RUN --to ctranslate2 FOLDER
```

CTranslate2's own converter does not fit: it starts every translation with the padding token.
"""


def _usage_of_protection(facts: Facts) -> str:
    """Return what a program has to do that translates without mtrain, if there is anything."""
    names = ", ".join(map(name_of, facts.config.data.protect))
    if not names:
        return ""
    return (
        f"\nThis model learnt with `data.protect` ({names}): it reads {PIECES[0]} to {PIECES[-1]} "
        "in place of the different protected spans of a text, in the order in which they first "
        "appear, and writes them in its translation. mtrain replaces the spans and puts them back; "
        "the code below does not.\n"
    )
