"""`mtrain prepare`: build a data folder from parallel text, unless nothing changed."""

from mtrain.commands.preparation import Preparation
from mtrain.config import Config
from mtrain.console import say
from mtrain.data.report import describe_manifest


def prepare(config: Config) -> str:
    """Build the data folder of a configuration and return a report on it."""
    due = Preparation.of(config)
    if due.prepared is not None:
        return describe_manifest(due.prepared)
    with due.hold():
        manifest = due.build(lambda builder: builder.build(due.inputs))
    say(f"{due.folder.path}: prepared in {manifest['seconds']} s")
    return describe_manifest(manifest)
