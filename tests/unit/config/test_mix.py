"""Weights, stages, languages and monolingual text in `data`: what cannot be is an error."""

from pathlib import Path

import pytest

from mtrain.config import Config, load_config
from mtrain.config.corpora import AlignedPairFiles, PairFiles
from mtrain.errors import UserError

CONFIG = """\
run_dir: run
data:
  source_lang: en
  target_lang: de
  train:
    - {name: web, source: web.en, target: web.de}
    - {name: clean, path: clean.tsv}
  valid: {from_train: 100}
"""


def load(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(text)
    return load_config(path)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("clean.tsv}", "clean.tsv, weight: 1}", "train: give every corpus a weight, or none"),
        ("clean.tsv}", "clean.tsv, weight: -1}", "7: data.train.1.weight: input should be"),
        ("  train:", "  sampling_temperature: 0.5\n  train:", "data.sampling_temperature"),
        ("  valid:", "  stages: [{mix: {}}]\n  valid:", "data.stages.0: names no corpus"),
        ("  valid:", "  stages: [{mix: {web: 0}}]\n  valid:",
         "data.stages.0: mix: the shares sum to nothing"),
        ("  valid:", "  stages: [{mix: {news: 1}}]\n  valid:",
         "stages.0.mix: no corpus of data.train is called news; there are: clean, web"),
        ("  valid:", "  stages: [{mix: {web: 1}}, {mix: {clean: 1}}]\n  valid:",
         "stages.0: say when the next stage begins: until, or plateau"),
        ("  valid:", "  stages: [{mix: {web: 1}, until: 5}]\n  valid:",
         "stages.0: the last stage lasts to the end"),
        ("  valid:", "  stages: [{mix: {web: 1}, until: 5}, {mix: {clean: 1}, until: 5}, "
         "{mix: {web: 1}}]\n  valid:", "stages.1.until: 5 is not after 5"),
        ("  valid:", "  sampling_temperature: 2\n  stages: [{mix: {web: 1}}]\n  valid:",
         "stages and sampling_temperature both set the mix of corpora: keep one"),
        ("from_train: 100", "from_train: 0", "data.valid.from_train: input should be greater"),
        ("{from_train: 100}", "{source: a.en, target: a.de}",
         "data.valid: input should be a valid list, not {"),
        ("{from_train: 100}", "[{path: x.tsv, target_lang: fr}]",
         "a held-out set is in fr, and the model learns to write de"),
        ("  valid: {from_train: 100}", "  valid: [{path: x.tsv, target_lang: fr}]\n"
         "tokenizer: {source_prefix: '<2{target_lang}>'}",
         "a held-out set is in fr, and the model learns to write de"),
        ("  valid:", "  stages: [{mix: {web: 1}, until: 3000}, {mix: {clean: 1}}]\n  valid:",
         "training.max_updates 3000 ends training before the stage that begins after update 3000"),
        ("  valid: {from_train: 100}", "  valid: {from_train: 100}\ntokenizer: "
         "{source_prefix: <s>}", "<s> is a mark or a byte of the vocabulary"),
        ("  valid: {from_train: 100}", "  valid: {from_train: 100}\ntokenizer: "
         "{source_prefix: '<2{target_lang>'}", "a brace is missing"),
        ("path: clean.tsv}", "text: a.de, lang: de, tag: <unk>}", "<unk> is a mark"),
        ("{from_train: 100}", "{from: 100}", "unknown key data.valid.from; did you mean from_t"),
        ("{from_train: 100}", "[{path: x.tsv, weight: 2}]",
         "data.valid: weight belongs to data.train: held-out text is not sampled"),
        ("{from_train: 100}", "[{text: x.de, lang: de}]",
         "data: text belongs to data.train: held-out text needs both sides"),
        ("clean.tsv}", "clean.tsv, target_lang: fr}",
         "target_lang: de is not the only one, data.train has de, fr: leave it out"),
        ("  target_lang: de\n", "", "data.train: target_lang is missing: name it in data, or for"),
        ("path: clean.tsv}", "text: a.fr, lang: fr}",
         "train.1.lang: fr is neither its source_lang en nor its target_lang de"),
        ("path: clean.tsv}", "text: a.de, lang: german!}", "train.1.lang: german! is neither"),
        ("path: clean.tsv}", "text: a.de, lang: de, tag: a b}", "data.train.1.tag"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(old: str, new: str, error: str, tmp_path: Path) -> None:
    assert old in CONFIG
    with pytest.raises(UserError) as caught:
        load(tmp_path, CONFIG.replace(old, new))
    assert error in str(caught.value)
    assert "config.yaml:" in str(caught.value)


def test_weights_that_sum_to_nothing_are_named(tmp_path: Path) -> None:
    text = CONFIG.replace("web.de}", "web.de, weight: 0}").replace("tsv}", "tsv, weight: 0}")
    with pytest.raises(UserError, match="train: the weights sum to nothing"):
        load(tmp_path, text)


def test_monolingual_text_is_read_as_pairs_with_its_translation_beside_the_data(
    tmp_path: Path,
) -> None:
    text = CONFIG.replace("path: clean.tsv", "text: in/news.de.gz, lang: de")
    for name, stem in ((", name: x", "x"), ("", "news")):
        named = text.replace("name: clean, ", "").replace("lang: de}", f"lang: de{name}}}")
        config = load(tmp_path, named)
        mono = config.data.train[1]
        (pairs,) = map(config.pairs_of, [mono])
        assert isinstance(pairs, PairFiles)
        assert pairs.source == Path(f"run/data-translations/{stem}.en")
        assert pairs.target == Path("in/news.de.gz")
        assert config.prefixes_of(mono) == (("<bt>",), ())
    forward = load(
        tmp_path, text.replace("name: clean, ", "").replace("lang: de}", "lang: en, tag: null}")
    )
    pairs = config.pairs_of(forward.data.train[1])
    assert isinstance(pairs, PairFiles)
    assert pairs.source == Path("in/news.de.gz")
    assert forward.prefixes_of(forward.data.train[1]) == ((), ())
    assert isinstance(config.pairs_of(config.data.train[0]), AlignedPairFiles)


def test_a_prefix_names_the_languages_of_its_corpus(tmp_path: Path) -> None:
    text = CONFIG.replace("  target_lang: de\n", "").replace(
        "web.de}", "web.de, target_lang: de}").replace("tsv}", "tsv, target_lang: fr}")  # fmt: skip
    config = load(tmp_path, text + 'tokenizer: {source_prefix: "{source_lang}>{target_lang}"}\n')
    assert [config.prefixes_of(corpus)[0] for corpus in config.data.train] == [
        ("en>de",), ("en>fr",)]  # fmt: skip
    assert config.prefix_pieces == ({"en>de", "en>fr"}, frozenset())
    assert config.data.directions == [("en", "de"), ("en", "fr")]
    with pytest.raises(UserError, match="this model translates into de, fr: choose one"):
        _ = config.languages
