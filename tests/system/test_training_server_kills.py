"""kill -9 of the training server's processes at random instants, while one client trains and another samples.

The promise (docs/training-server.md): at most the update in flight is lost, a half-written adapter is never served, and
no step is applied twice. A run that nobody disturbed is the reference, bit for bit. ``METACLAW_KILLS`` sets how many
are killed.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from metaclaw.journal.database import open_reader
from metaclaw.training.checkpoints import Manifest, verify
from tests.fakes.tiny_model import make_tiny_model
from tests.fakes.training_server import API_KEY, TrainingServer, free_port, training_server
from tests.system.server_clients import BASE, Asker, Trainer, ask, train_undisturbed

NUM_KILLS = int(os.environ.get("METACLAW_KILLS", "3"))
VICTIMS = ("engine", "api", "sampler", "engine")
STEPS_BETWEEN = 3


class Victim:
    """A training server that is started again where it was."""

    def __init__(self, model: Path, data_dir: Path, stack: ExitStack) -> None:
        self._model, self._data_dir, self._stack, self._port = model, data_dir, stack, free_port()
        self.now = self._start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def kill(self, name: str) -> None:
        if name != "api":
            self.now.kill_worker(name)
            return
        self.now.process.kill()
        self.now.process.wait()
        self.now = self._start()

    def _start(self) -> TrainingServer:
        return self._stack.enter_context(training_server(self._model, self._data_dir, port=self._port, max_context=256))


@pytest.mark.kills
@pytest.mark.timeout(120 + 30 * NUM_KILLS)
def test_whatever_is_killed_the_weights_are_those_of_a_run_that_nobody_disturbed(tmp_path: Path):
    chance = random.Random(f"training server {NUM_KILLS}")
    model, data_dir = make_tiny_model(tmp_path / BASE), tmp_path / "data"
    with ExitStack() as stack:
        server = Victim(model, data_dir, stack)
        trainer = Trainer(server.url)
        asker = Asker(server.url, trainer)
        with running(trainer, asker):
            for number in range(NUM_KILLS):
                disturb(server, trainer, asker, VICTIMS[number % len(VICTIMS)], chance)
            wait_for_progress(trainer, asker)
        server.now.wait_until_ready()
        references = train_undisturbed(server.url, trainer.step + 1)  # a step whose answer was lost may be on disk
        checkpoints = saved(data_dir)
        check_checkpoints(checkpoints, references, trainer)
        check_answers(server.url, references, trainer, asker)


def disturb(server: Victim, trainer: Trainer, asker: Asker, victim: str, chance: random.Random) -> None:
    wait_for_progress(trainer, asker)
    trainer.limit = trainer.step + STEPS_BETWEEN
    time.sleep(chance.random() * 0.6)  # a step with its two saves takes about a third of a second
    server.kill(victim)
    if victim == "api":
        trainer.epoch += 1


def wait_for_progress(trainer: Trainer, asker: Asker) -> None:
    """Until another step was acknowledged and another answer came."""
    steps, answers = trainer.step, len(asker.answers)
    trainer.limit = max(trainer.limit, steps + 1)
    wait_until(lambda: trainer.step > steps and len(asker.answers) > answers, trainer)


def wait_until(condition: Callable[[], bool], trainer: Trainer, timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert trainer.failure is None
        assert time.monotonic() < deadline, f"nothing happened for {timeout_s:.0f} s: {trainer}"
        time.sleep(0.02)


@contextmanager
def running(trainer: Trainer, asker: Asker) -> Iterator[None]:
    threads = [threading.Thread(target=each.run) for each in (trainer, asker)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for each in (trainer, asker):
            each.stop.set()
        for thread in threads:
            thread.join(90)
    assert trainer.failure is None


def saved(data_dir: Path) -> dict[str, Manifest]:
    """Every registered checkpoint; each must be complete, with every hash as its manifest says."""
    with closing(open_reader(data_dir / "server.db")) as registry:
        rows = registry.execute("SELECT model_id, kind, name, directory FROM checkpoints").fetchall()
    return {f"tinker://{model}/{kind}/{name}": verify(data_dir / directory) for model, kind, name, directory in rows}


def check_checkpoints(
    checkpoints: dict[str, Manifest], references: dict[int, tuple[str, str]], trainer: Trainer
) -> None:
    """What was acknowledged exists, and whatever exists is what the undisturbed run had at that step."""
    assert set(trainer.acknowledged) <= checkpoints.keys()
    assert trainer.num_resumed >= 1
    for path, manifest in checkpoints.items():
        state, weights = references[manifest.step]
        reference = checkpoints[state if manifest.kind == "state" else weights]
        assert manifest.files == reference.files, f"{path} is not step {manifest.step} of the undisturbed run"
    for path, step in trainer.weights.items():
        assert checkpoints[path].step == step


def check_answers(url: str, references: dict[int, tuple[str, str]], trainer: Trainer, asker: Asker) -> None:
    """Every answer is that of the weights that were asked; what was acknowledged was never unknown."""
    assert not [status for status in asker.refused if status < 500], asker.refused
    with httpx2.Client(base_url=url, headers={"X-API-Key": API_KEY}, timeout=60) as http:
        for model, question, tokens in sorted(set(asker.answers)):
            assert ask(http, references[trainer.weights[model]][1], question) == (200, tokens)
    assert len({tokens for _, _, tokens in asker.answers}) > 1, "all versions answer alike: nothing was tested"
