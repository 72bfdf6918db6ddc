"""Build a parallel corpus from the user-interface strings of Home Assistant (Apache-2.0).

Fetches the published wheel without installing it, checks its digest, joins two of its languages on
their translation keys, cleans the pairs, splits them by source text, and writes
OUT_DIR/SOURCE-TARGET/{train,valid,test}.{SOURCE,TARGET}. It writes the manifest last.

Words are separated by white space, so a source language written without spaces (Chinese, Japanese,
Thai) leaves few sentences for valid and test.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Release(NamedTuple):
    """A published wheel: pip requirement, file name and digest."""

    requirement: str
    file_name: str
    sha256: str


HOME_ASSISTANT = Release(
    requirement="homeassistant==2026.11.0",
    file_name="homeassistant-2026.11.0-py3-none-any.whl",
    sha256="7ca5fbde9dea879ac7723949fc84347aac5182e6309c357b2e4973fd391b00f7",
)

SET_NAMES = ("train", "valid", "test")
SEED = "mtrain home-assistant 1"
HELD_OUT_SHARE = 0.057  # of eligible sources, each for valid and test: about 1,000 of en-de
MINIMUM_WORDS = 4  # shorter sources are poor test items and always go to train

TRANSLATION_FILE = re.compile(r"homeassistant/components/([^/]+)/translations/([^/]+)\.json")
BREAKS_AND_SPACES = re.compile("[ \t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
KEY_REFERENCE = "[%key:"
TRAILING_PUNCTUATION = " .,:;!?…।。、؟\uff0c\uff1a\uff1b\uff01\uff1f"  # full-width ones as escapes
PLACEHOLDER = re.compile(r"\{[^{}]*\}")
DIGITS = re.compile(r"\d+")

KeyPath = tuple[str, ...]
Pair = tuple[str, str]
Sets = dict[str, list[Pair]]
TranslationIndex = dict[str, dict[str, str]]  # language -> component -> file in the wheel


def say(message: str) -> None:
    """Print a progress message on stderr."""
    print(message, file=sys.stderr, flush=True)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def require_digest(wheel: Path, expected: str) -> None:
    """Delete the wheel and exit unless it has the expected SHA-256."""
    found = file_digest(wheel)
    if found != expected:
        wheel.unlink()
        raise SystemExit(
            f"{wheel}: its sha256 is {found}, not {expected}; "
            "it is deleted: run this again to download it anew"
        )


def fetch_wheel(directory: Path, release: Release) -> Path:
    """Return the path of the release's wheel, downloaded by pip if missing, with a checked digest.

    pip writes to a temporary folder; only a complete wheel with the right digest leaves it.
    """
    wheel = directory / release.file_name
    if wheel.exists():
        require_digest(wheel, release.sha256)
        say(f"using {wheel}, downloaded before")
        return wheel
    say(f"downloading {release.requirement} into {directory}")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as temporary:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--ignore-requires-python"]
        pip += ["--only-binary=:all:", "--dest", temporary, release.requirement]
        status = subprocess.run(pip, stdout=sys.stderr, check=False).returncode
        downloaded = Path(temporary) / release.file_name
        if status != 0 or not downloaded.exists():
            raise SystemExit(
                f"pip could not download {release.requirement} (exit status {status}): see what it "
                f"said above and run this again, or put {release.file_name} into {directory}"
            )
        require_digest(downloaded, release.sha256)
        downloaded.replace(wheel)
    return wheel


def index_translations(archive: zipfile.ZipFile) -> TranslationIndex:
    """List the wheel's translation files by language and component."""
    index: TranslationIndex = {}
    for name in archive.namelist():
        if match := TRANSLATION_FILE.fullmatch(name):
            component, language = match.groups()
            index.setdefault(language, {})[component] = name
    return index


def string_leaves(tree: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield every string of a nested JSON object with its path of keys."""
    if isinstance(tree, str):
        yield path, tree
    elif isinstance(tree, dict):
        for key, branch in tree.items():
            yield from string_leaves(branch, (*path, key))


def read_strings(archive: zipfile.ZipFile, files: dict[str, str]) -> dict[KeyPath, str]:
    """Read one language's strings, keyed by component and path of keys."""
    return {
        path: text
        for component, name in files.items()
        for path, text in string_leaves(json.loads(archive.read(name)), (component,))
    }


def clean(text: str) -> str:
    """Return the text on one line; line breaks, tabs and runs of spaces become one space."""
    return BREAKS_AND_SPACES.sub(" ", text).strip()


def join_strings(sources: dict[KeyPath, str], targets: dict[KeyPath, str]) -> set[Pair]:
    """Pair the cleaned strings that share a key; drop empty strings and key references."""
    pairs = {(clean(text), clean(targets[key])) for key, text in sources.items() if key in targets}
    return {pair for pair in pairs if all(text and KEY_REFERENCE not in text for text in pair)}


def read_pairs(wheel: Path, source: str, target: str) -> set[Pair]:
    """Read the unique pairs of two languages from the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        index = index_translations(archive)
        for language in (source, target):
            if language not in index:
                raise SystemExit(
                    f"no language {language!r} in {wheel.name}; choose from: "
                    + ", ".join(sorted(index))
                )
        if source == target:
            raise SystemExit(f"--source and --target are both {source!r}; choose two languages")
        return join_strings(
            read_strings(archive, index[source]), read_strings(archive, index[target])
        )


def normalise(text: str) -> str:
    """Return the text without case, spacing and trailing punctuation, for comparing sources."""
    return " ".join(text.casefold().split()).rstrip(TRAILING_PUNCTUATION)


def mask(text: str) -> str:
    """Return the normalised text with all {placeholders} and all numbers made equal."""
    return normalise(DIGITS.sub("0", PLACEHOLDER.sub("{}", text)))


def seeded_fraction(text: str) -> float:
    """Map the text to a number in [0, 1) that depends only on the text and the seed."""
    digest = hashlib.sha256(f"{SEED}\n{text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def choose_set(source: str) -> str:
    """Return the set of a source string, the same for all its near-copies."""
    text = normalise(source)
    if len(text.split()) < MINIMUM_WORDS:
        return "train"
    fraction = seeded_fraction(text)
    if fraction < HELD_OUT_SHARE:
        return "valid"
    return "test" if fraction < 2 * HELD_OUT_SHARE else "train"


def split_pairs(pairs: Iterable[Pair]) -> Sets:
    """Split the pairs into sets, shuffled by hash; valid and test keep one pair per source."""
    sets: Sets = {name: [] for name in SET_NAMES}
    held_out: set[str] = set()
    for pair in sorted(pairs, key=lambda pair: (seeded_fraction("\n".join(pair)), pair)):
        name = choose_set(pair[0])
        if name != "train":
            text = normalise(pair[0])
            if text in held_out:
                continue
            held_out.add(text)
        sets[name].append(pair)
    return sets


def masked_overlap(sets: Sets) -> float:
    """Return the share of test sources that equal a training source after masking both."""
    train = {mask(source) for source, _ in sets["train"]}
    return sum(mask(source) in train for source, _ in sets["test"]) / len(sets["test"])


def file_names(source: str, target: str) -> list[str]:
    """Return the names of a corpus's text files."""
    return [f"{name}.{language}" for name in SET_NAMES for language in (source, target)]


def corpus_identity(release: Release, source: str, target: str) -> dict[str, object]:
    """Return what determines a corpus: the same description gives the same text."""
    return {
        "package": release.requirement,
        "sha256": release.sha256,
        "license": "Apache-2.0",
        "source": source,
        "target": target,
        "seed": SEED,
        "held_out_share": HELD_OUT_SHARE,
        "minimum_words": MINIMUM_WORDS,
    }


def is_complete(directory: Path, identity: dict[str, object], names: list[str]) -> bool:
    """Return whether the directory holds this corpus, complete and unchanged."""
    try:
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
        return all(manifest[key] == value for key, value in identity.items()) and all(
            manifest["files"][name] == file_digest(directory / name) for name in names
        )
    except (OSError, ValueError, LookupError, TypeError):  # missing, or another program's manifest
        return False


def write_whole(path: Path, text: str) -> None:
    """Write the file under a temporary name, then rename it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(text.encode("utf-8"))
    partial.replace(path)


def write_corpus(directory: Path, sets: Sets, identity: dict[str, object]) -> None:
    """Write the text files, then the manifest with their digests."""
    directory.mkdir(parents=True, exist_ok=True)
    manifest_path = directory / "manifest.json"
    manifest_path.unlink(missing_ok=True)
    for name, pairs in sets.items():
        for side, language in enumerate((identity["source"], identity["target"])):
            lines = "".join(f"{pair[side]}\n" for pair in pairs)
            write_whole(directory / f"{name}.{language}", lines)
    names = file_names(str(identity["source"]), str(identity["target"]))
    manifest = {
        **identity,
        "pairs": {name: len(pairs) for name, pairs in sets.items()},
        "test_sources_in_train_once_masked": round(masked_overlap(sets), 4),
        "files": {name: file_digest(directory / name) for name in names},
    }
    write_whole(manifest_path, json.dumps(manifest, indent=2) + "\n")


def report(sets: Sets) -> str:
    """Return the closing table and the warning about near-copies."""
    lines = [f"{'set':<6}{'pairs':>8}{'source words':>14}{'target words':>14}{'mean source':>13}"]
    for name, pairs in sets.items():
        source_words, target_words = (
            sum(len(pair[side].split()) for pair in pairs) for side in (0, 1)
        )
        lines.append(
            f"{name:<6}{len(pairs):>8,}{source_words:>14,}{target_words:>14,}"
            f"{source_words / len(pairs):>13.1f}"
        )
    lines.append(
        "Strings repeat themselves across components, so near-copies of test sentences may stand "
        f"in train: {masked_overlap(sets):.1%} of the test sources equal a train source once "
        "{placeholders} and digits are masked."
    )
    return "\n".join(lines)


def build_corpus(
    out_directory: Path, source: str, target: str, release: Release = HOME_ASSISTANT
) -> None:
    """Build the corpus of two languages under the directory, unless it exists."""
    directory = out_directory / f"{source}-{target}"
    identity = corpus_identity(release, source, target)
    if is_complete(directory, identity, file_names(source, target)):
        say(f"{directory} is complete, nothing to do; delete it to build it anew")
        return
    wheel = fetch_wheel(out_directory / "download", release)
    say(f"reading {source} and {target} from {wheel}")
    pairs = read_pairs(wheel, source, target)
    sets = split_pairs(pairs)
    if not all(sets.values()):
        raise SystemExit(
            f"{source}-{target} has {len(pairs)} pairs, too few for train, valid and test; "
            "choose languages that Home Assistant translates more fully"
        )
    say(f"writing {directory}")
    write_corpus(directory, sets, identity)
    print(report(sets))


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the corpus that the command line names."""
    parser = argparse.ArgumentParser(
        description="Build a parallel corpus from the user-interface strings of Home Assistant."
    )
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="e.g. data/home-assistant")
    parser.add_argument("--source", default="en", help="language to translate from (default: en)")
    parser.add_argument("--target", default="de", help="language to translate to (default: de)")
    options = parser.parse_args(arguments)
    try:
        build_corpus(options.out_dir, options.source, options.target)
    except OSError as error:
        raise SystemExit(
            f"cannot build the corpus in {options.out_dir}: {error}; "
            "check that the directory can be written and the disk has room"
        ) from error


if __name__ == "__main__":
    main()
