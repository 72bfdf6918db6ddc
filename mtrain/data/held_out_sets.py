"""All held-out sets of a configuration: those given as text, and those taken from train."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtrain.config.run import Config
from mtrain.data.from_train import TakenPairs, take_from_train
from mtrain.data.held_out import HeldOut, Part


@dataclass(frozen=True)
class HeldOutSets:
    """The held-out sets, whose text is in a folder, and what keeps training pairs apart."""

    held_out: HeldOut
    taken: TakenPairs
    valid: list[Part]
    watch: dict[str, list[Part]]
    tests: dict[str, list[Part]]

    @property
    def parts(self) -> dict[str, Sequence[Part]]:
        """The parts of each set."""
        return {"valid": self.valid, **self.watch, **self.tests}


def hold_out(config: Config, folder: Path) -> HeldOutSets:
    """Write the text of all held-out sets into a new folder."""
    folder.mkdir()
    data, held_out = config.data, HeldOut(folder, config)
    valid = held_out.write("valid", data.valid_corpora) if data.valid_corpora else []
    watch, tests = (
        {name: held_out.write(name, [corpus]) for name, corpus in sets.items()}
        for sets in (data.watch_sets, data.test_sets)
    )
    for name, corpus in data.test_sets.items():
        held_out.write_documents(name, corpus)
    taken = take_from_train(config, held_out)
    return HeldOutSets(held_out, taken, [*valid, *taken.valid], watch, tests | taken.tests)
