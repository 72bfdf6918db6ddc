"""`mtrain prepare --shard` and `mtrain merge`: the same bytes as one process, whatever happens."""

import json
import shutil
import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtrain.commands.merge_data import merge_data
from mtrain.commands.prepare import prepare
from mtrain.commands.prepare_shard import prepare_shard
from mtrain.config import Config
from mtrain.data import blocks
from mtrain.distributed.shards import Shard, ShardManifest
from mtrain.errors import UserError
from tests.cli.conftest import contents
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, succeed, write_task

Pairs = list[tuple[str, str]]
GERMAN = {"source_lang": "en", "target_lang": "de"}
ENGLISH = {"source_lang": "de", "target_lang": "en"}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut what is prepared in this process small; a command's own process cuts as ever."""
    monkeypatch.setattr(blocks, "BLOCK_PAIRS", 7)


def numbered(numbers: Iterable[int]) -> Pairs:
    return [(f"This is number {n}", f"Das ist Nummer {n}") for n in numbers]


def corpus(folder: Path, name: str, pairs: Pairs, **more: Any) -> dict[str, Any]:
    paths = {side: folder / f"{name}.{side}" for side in ("source", "target")}
    for path, lines in zip(paths.values(), zip(*pairs, strict=True), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines))
    return {**GERMAN, **paths, **more}


def configure(
    folder: Path, train: list[Any], tokenizer: dict[str, Any] | None = None, **data: Any
) -> Config:
    """Return a configuration with held-out sets that two training pairs repeat."""
    held_out = {
        "valid": [corpus(folder, "valid", numbered([12, 500]))],
        "test": [corpus(folder, "test", numbered([33, 501]))],
    }
    return Config.model_validate(
        {
            "run_dir": folder / "run",
            "data": {"train": train, **held_out, **data},
            "tokenizer": {"vocab_size": 340, **(tokenizer or {})},
        }
    )


def dirty(folder: Path) -> Config:
    """Two corpora with equal and nearly equal pairs in different blocks, links, and dirt."""
    first = [*numbered(range(60)), ("same", "same"), ("", "leer"), *numbered(range(20, 30))]
    second = [*numbered(range(50, 90)), ("THIS is number 3!", "das ist nummer 3"),
              ("This is number 8", "Das ist Nummer 9"), ("short", "lang " * 60)]  # fmt: skip
    links = folder / "first.align"
    links.write_text("".join("0-0\n" if all(pair) else "\n" for pair in first))
    linked = corpus(folder, "first", first, alignments=links)
    checks = {"checks": ["numbers", "near_duplicates"]}
    return configure(folder, [linked, corpus(folder, "second", second)], filters=checks)


def documents(folder: Path) -> Config:
    """Documents that do not end where blocks do, and held-out sets taken from train."""
    lines = numbered(range(70))
    for place in (44, 20, 9):
        lines.insert(place, ("", ""))
    train = [
        corpus(folder, "talks", lines, documents="empty_lines"),
        corpus(folder, "lines", numbered(range(60, 120))),
    ]
    taken = {"valid": {"from_train": 5}, "test": {"from_train": 4}}
    filters = {"max_tokens": 40}
    return configure(folder, train, context={"tokens": 64}, filters=filters, **taken)


def directions(folder: Path) -> Config:
    """Two directions, protected spans, and a tokenizer that sees a part of the text."""
    pairs = [(f"Press {{key{n}}} now", f"Jetzt {{key{n}}} drücken") for n in range(50)]
    turned = [(target, source) for source, target in numbered(range(40))]
    train = [corpus(folder, "keys", pairs), corpus(folder, "turned", turned, **ENGLISH)]
    tokenizer = {"train_sentences": 60, "source_prefix": "<2{target_lang}>"}
    return configure(folder, train, tokenizer, protect=["placeholders"])


def texts(folder: Path) -> Config:
    """Text in one language for a BERT, some of it twice."""
    paths = {name: folder / f"{name}.en" for name in ("train", "more", "valid")}
    lines = [source for source, _ in numbered(range(40))]
    for path, some in zip(
        paths.values(), (lines, [*lines[20:], "a", "b"], lines[3:5]), strict=True
    ):
        path.write_text("".join(f"{line}\n" for line in some))
    named = {name: {"text": path, "lang": "en", "name": name} for name, path in paths.items()}
    data = {"train": [named["train"], named["more"]], "valid": [named["valid"]]}
    return Config.model_validate(
        {
            "run_dir": folder / "run",
            "data": data,
            "tokenizer": {"vocab_size": 310},
            "model": {"type": "bert"},
            "training": {"objective": "masked_lm"},
        }
    )


def of_folder(config: Config, name: str) -> Config:
    return config.model_copy(update={"data_dir": config.run_dir.parent / name})


def prepared(folder: Path) -> dict[str, Any]:
    """Return all that a data folder holds, without the time that it took."""
    files: dict[str, Any] = dict(contents(folder))
    files["manifest.json"] = json.loads(files["manifest.json"])
    assert files["manifest.json"].pop("seconds") >= 0
    return files


def all_shards(config: Config, count: int) -> list[str]:
    """Do every shard of the round that is due, the last one first."""
    return [prepare_shard(config, Shard(number, count)) for number in range(count, 0, -1)]


@pytest.mark.parametrize("count", [1, 3, 21])
@pytest.mark.parametrize("make", [dirty, documents, directions, texts])
def test_shards_make_the_folder_that_one_process_makes(
    make: Callable[[Path], Config], count: int, tmp_path: Path
) -> None:
    config = make(tmp_path)
    whole, parts = of_folder(config, "whole"), of_folder(config, "parts")
    report = prepare(whole)
    said = all_shards(parts, count)
    assert said[-1].endswith("all shards are complete; run next: mtrain merge CONFIG.yaml")
    sizes = [entry["seen"] for entry in prepared(tmp_path / "whole")["manifest.json"]["filtered"]]
    num_idle = max(0, count - sum(-(-size // 7) for size in sizes))
    assert sum("no block of the corpora" in told for told in said) == num_idle
    assert f"--shard 1/{count} to {count}/{count}" in merge_data(parts)
    all_shards(parts, count)
    assert merge_data(parts) == report
    assert prepared(tmp_path / "parts") == prepared(tmp_path / "whole")
    assert not (tmp_path / "parts.shards").exists()


def test_the_dirty_corpora_have_all_that_shards_could_get_wrong(tmp_path: Path) -> None:
    config = of_folder(dirty(tmp_path), "whole")
    prepare(config)
    told = prepared(tmp_path / "whole")["manifest.json"]
    reasons = {reason for entry in told["filtered"] for reason, count in entry["counts"].items()
               if count}  # fmt: skip
    assert reasons == {"kept", "identical", "empty", "overlap", "duplicate", "near_duplicates",
                       "numbers", "ratio"}  # fmt: skip
    assert told["splits"]["train"]["links"]["pairs"] > 40
    chunks = prepare(of_folder(documents(tmp_path), "chunks"))
    assert "chunks of 4 documents" in chunks


def test_rounds_may_have_other_numbers_of_shards(tmp_path: Path) -> None:
    config = of_folder(dirty(tmp_path), "parts")
    all_shards(config, 2)
    merge_data(config)
    all_shards(config, 3)
    merge_data(config)
    prepare(of_folder(config, "whole"))
    assert prepared(tmp_path / "parts") == prepared(tmp_path / "whole")


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    config, job = of_folder(dirty(tmp_path), "parts"), tmp_path / "parts.shards"
    assert prepare_shard(config, Shard(1, 2)).endswith("1 of 2 shards are complete")
    before = contents(job)
    assert "shard 1/2 is there already: " in prepare_shard(config, Shard(1, 2))
    assert contents(job) == before
    report = prepare(config)  # in one process, while the folder of the shards stands
    assert contents(job) == before
    assert prepare_shard(config, Shard(2, 2)) == report
    assert merge_data(config) == report
    assert not job.exists()
    assert merge_data(config) == report


def scan_of(job: Path, number: int) -> Path:
    return job / f"scan.shard-{number}-of-3"


def remove_second(job: Path) -> None:
    shutil.rmtree(scan_of(job, 2))


def copy_first(job: Path) -> None:
    remove_second(job)
    shutil.copytree(scan_of(job, 1), scan_of(job, 2))


def damage_second(job: Path) -> None:
    path = scan_of(job, 2) / "blocks"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def take_manifest(job: Path) -> None:
    (scan_of(job, 2) / "manifest.json").unlink()


def cut_manifest(job: Path) -> None:
    (scan_of(job, 2) / "manifest.json").write_text("{")


def turn_into_another_job(job: Path) -> None:
    path = scan_of(job, 2) / "manifest.json"
    manifest = ShardManifest.read(path)
    manifest.job["settings"]["data"]["train"][1]["source_lang"] = "fr"
    manifest.write(path)


def add_notes(job: Path) -> None:
    (job / "notes.txt").write_text("mine\n")


def count_to_four(job: Path) -> None:
    shutil.move(scan_of(job, 2), job / "scan.shard-2-of-4")
    path = job / "scan.shard-2-of-4" / "manifest.json"
    replace(ShardManifest.read(path), shard=Shard(2, 4)).write(path)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (shutil.rmtree, "no shard of round 1 of 2 is complete"),
        (remove_second, "1 of 3 shards are missing: 2"),
        (copy_first, "shard 1/3 is there twice"),
        (damage_second, "scan.shard-2-of-3/blocks: damaged"),
        (take_manifest, "scan.shard-2-of-3: this shard has no manifest"),
        (cut_manifest, "manifest of a shard is damaged"),
        (turn_into_another_job, "train.1.source_lang: 'en' -> 'fr'"),
        (add_notes, "mtrain did not write: notes.txt"),
        (count_to_four, "shard 1/3 and shard 2/4 count differently"),
    ],
)
def test_a_merge_refuses_what_is_not_one_whole_job(
    spoil: Callable[[Path], None], complaint: str, tmp_path: Path
) -> None:
    config, job = of_folder(dirty(tmp_path), "parts"), tmp_path / "parts.shards"
    all_shards(config, 3)
    spoil(job)
    before = contents(job)
    with pytest.raises(UserError) as refused:
        merge_data(config)
    assert complaint in str(refused.value)
    after = contents(job)
    after.pop(".joined.shard-1-of-1.lock", None)
    assert after == before
    assert not (tmp_path / "parts").exists()


def test_the_second_round_is_checked_like_the_first(tmp_path: Path) -> None:
    config, job = of_folder(dirty(tmp_path), "parts"), tmp_path / "parts.shards"
    all_shards(config, 2)
    merge_data(config)
    with pytest.raises(UserError, match="no shard of round 2 of 2 is complete"):
        merge_data(config)
    prepare_shard(config, Shard(2, 2))
    with pytest.raises(UserError, match="1 of 2 shards are missing: 1"):
        merge_data(config)
    verdicts = job / "joined.shard-1-of-1" / "verdicts"
    kept = verdicts.read_bytes()
    verdicts.write_bytes(kept[:-1])
    with pytest.raises(UserError, match="verdicts: damaged"):
        prepare_shard(config, Shard(1, 2))
    verdicts.write_bytes(kept)
    prepare_shard(config, Shard(1, 2))
    path = job / "tokens.shard-2-of-2" / "manifest.json"
    written = ShardManifest.read(path)
    replace(written, content={**written.content, "joined": {"verdicts": "others"}}).write(path)
    with pytest.raises(UserError, match=r"tokens.shard-2-of-2: made with another tokenizer"):
        merge_data(config)
    shutil.rmtree(path.parent)
    prepare_shard(config, Shard(2, 2))
    merge_data(config)


def test_shards_of_other_settings_or_inputs_are_named(tmp_path: Path) -> None:
    config, job = of_folder(dirty(tmp_path), "parts"), tmp_path / "parts.shards"
    prepare_shard(config, Shard(1, 2))
    before = contents(job)
    filters = config.data.filters.model_copy(update={"max_tokens": 99})
    data = config.data.model_copy(update={"filters": filters})
    for work in (lambda other: prepare_shard(other, Shard(2, 2)), merge_data):
        with pytest.raises(UserError, match=r"settings.data.filters.max_tokens: None -> 99"):
            work(config.model_copy(update={"data": data}))
    with (tmp_path / "second.target").open("a") as file:
        file.write("noch eine\n")
    with (tmp_path / "second.source").open("a") as file:
        file.write("one more\n")
    with pytest.raises(UserError, match=r"inputs\..*second.source: '\w+' -> '\w+'"):
        prepare_shard(config, Shard(2, 2))
    assert contents(job) == before


def test_a_killed_shard_is_done_again_and_a_held_one_is_refused(
    warm: WarmCommandLine, tmp_path: Path
) -> None:
    write_task(tmp_path, {"train": 11_000, "valid": 20, "test": 20})
    (tmp_path / "config.yaml").write_text(TINY_CONFIG)
    job = tmp_path / "run" / "data.shards"

    def is_at_work() -> bool:
        return any(job.glob(".scan.shard-1-of-2.building-*"))

    killed = warm.start("prepare", "config.yaml", "--shard", "1/2")
    killed.wait_until(is_at_work)
    killed.send(signal.SIGSTOP)
    refused = warm("prepare", "config.yaml", "--shard", "1/2")
    assert refused.code == 2
    assert "scan.shard-1-of-2: another process is at work on it" in refused.err
    killed.send(signal.SIGKILL)
    assert killed.finish().code == -signal.SIGKILL
    assert is_at_work()
    succeed(warm, "prepare", "config.yaml", "--shard", "2/2")
    done = succeed(warm, "prepare", "config.yaml", "--shard", "1/2").out
    assert "shard 1/2 done: 10,000 pairs in 1 block," in done
    assert not is_at_work()
    succeed(warm, "merge", "config.yaml")
    for number in (1, 2):
        succeed(warm, "prepare", "config.yaml", "--shard", f"{number}/2")
    merged = succeed(warm, "merge", "config.yaml")
    whole = succeed(warm, "prepare", "config.yaml", "--set", "data_dir=whole")
    assert merged.out == whole.out
    assert prepared(tmp_path / "run" / "data") == prepared(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"data", ".data.lock"}
