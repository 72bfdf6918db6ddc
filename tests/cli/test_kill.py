"""kill -9 at random moments of a run that saves after every update.

The number of kills is KILLS in the environment, 40 by default. By hand, with the figures shown:

    KILLS=500 pytest -s tests/cli/test_kill.py
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from mtrain.checkpoints.collection import list_checkpoints, load_last_whole
from mtrain.checkpoints.format import Checkpoint
from tests.cli.test_resume import as_options, digests, events
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, succeed, write_task

KILLS = int(os.environ.get("KILLS", "40"))
TINIEST = as_options(
    *("model.d_model=16", "model.ffn_dim=32", "model.num_heads=2", "decoding.max_length_ratio=1"),
    *("training.batch_tokens=64", "training.schedule=inverse_sqrt", "training.log_every=1"),
    *("training.valid_every=1000000", "training.max_updates=1000000"),
    *("training.precision=fp32", "device=cpu"),
)
OFTEN = as_options("training.save_every=1", "training.keep_last=1")


class KilledRun:
    """A run folder, what the kills leave in it, and how many came when."""

    def __init__(self, folder: Path, warm: WarmCommandLine) -> None:
        self.checkpoints = folder / "run" / "checkpoints"
        self.warm = warm
        self.figures: Counter[str] = Counter()
        self.update = -1  # of the newest checkpoint when the last kill had been

    def newest_update(self) -> int:
        """Return the update of the newest checkpoint by its name, -1 where there is none."""
        paths = list_checkpoints(self.checkpoints)
        return int(paths[-1].name.removeprefix("update-").partition(".")[0]) if paths else -1

    def has_got_on(self) -> bool:
        """Tell whether there is a newer checkpoint than after the last kill."""
        return self.newest_update() > self.update

    def is_writing(self) -> bool:
        """Tell whether a checkpoint is half written."""
        return any(self.checkpoints.glob(".update-*.writing"))

    def is_removing(self) -> bool:
        """Tell whether a checkpoint is half removed."""
        return any(self.checkpoints.glob(".update-*.removing"))

    def kill(self, moment: Callable[[], bool], delay: float) -> None:
        """Train; so many seconds after a moment, kill. Then look at what is left."""
        running = self.warm.start("train", "config.yaml", *TINIEST, *OFTEN)
        running.wait_until(moment)
        time.sleep(delay)
        running.send(signal.SIGKILL)
        finished = running.finish()
        assert finished.code == -signal.SIGKILL
        assert "damaged" not in finished.err
        assert "Traceback" not in finished.err
        self.figures["kills"] += 1
        self.figures["before training began"] += "training transformer" not in finished.err
        self.figures["left a checkpoint half written"] += self.is_writing()
        self.figures["left a checkpoint half removed"] += self.is_removing()
        self._check_newest()

    def _check_newest(self) -> None:
        checkpoint = self._load_newest()
        if self.update >= 0:
            assert checkpoint is not None, "there had been a checkpoint, and there is none now"
        if checkpoint is not None:
            update = checkpoint.state["position"]["update"]
            assert update >= self.update, "it fell behind"
            self.update = update

    def _load_newest(self) -> Checkpoint | None:
        """Load the newest checkpoint and no other: an error if that one is not whole."""
        return load_last_whole(list_checkpoints(self.checkpoints)[-1:], with_training=True)


def test_a_killed_run_always_has_a_whole_checkpoint_and_goes_on_from_it(
    warm: WarmCommandLine, tmp_path: Path
) -> None:
    write_task(tmp_path, {"train": 500, "valid": 5, "test": 1})
    (tmp_path / "config.yaml").write_text(TINY_CONFIG)
    succeed(warm, "prepare", "config.yaml")
    run, dice = KilledRun(tmp_path, warm), random.Random(1)
    moments = [
        (lambda: True, 0.5),  # any moment since the start, the half second of loading included
        (run.has_got_on, 0.1),
        (run.is_writing, 0.01),
        (run.is_removing, 0.0),
    ]
    for number in range(KILLS):
        moment, longest_delay = moments[number % len(moments)]
        run.kill(moment, dice.uniform(0, longest_delay))
    print(f"\n{dict(run.figures)}, {run.update} updates done", end=" ")
    assert run.figures["left a checkpoint half written"] > KILLS / 10
    assert run.update > KILLS / 3

    # and what all the kills have led to is what no kill at all leads to
    end = as_options(f"training.max_updates={run.update + 3}")
    finished = succeed(warm, "train", "config.yaml", *TINIEST, *OFTEN, *end)
    assert f"resuming from run/checkpoints/update-{run.update:08}" in finished.err
    assert not run.is_writing()
    assert not run.is_removing()
    undisturbed = ("--set", "run_dir=undisturbed", "--set", "data_dir=run/data")
    succeed(warm, "train", "config.yaml", *TINIEST, *end, *undisturbed)
    name = f"checkpoints/update-{run.update + 3:08}"
    assert digests(tmp_path / "run" / name) == digests(tmp_path / "undisturbed" / name)
    assert events(tmp_path / "run", "train") == events(tmp_path / "undisturbed", "train")
