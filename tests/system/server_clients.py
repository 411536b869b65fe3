"""A client that trains and one that asks, through the real SDK and over HTTP, while processes are killed under them.

Both go on for as long as they are let, and remember what they were promised: which checkpoints were acknowledged, and
which answer came from which weights.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Any

import httpx2
import tinker
from tinker.lib.retryable_exception import RetryableException  # what it raises for a promise of a server before

from tests.fakes.training_server import API_KEY

BASE = "tiny"
SEED = 7
MAX_TOKENS = 8
_POLL_S = 0.1
_PATIENCE_S = 180.0


def datum(step: int) -> tinker.Datum:
    """What step ``step`` is trained on, always the same."""
    chance = random.Random(step)
    tokens = [chance.randrange(256) for _ in range(24)]
    return tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens[:-1]),
        loss_fn_inputs={"target_tokens": tokens[1:], "weights": [1.0] * (len(tokens) - 1)},  # pyright: ignore
    )


class AbandonedError(Exception):
    """The server that should have answered was killed."""


@dataclass(slots=True)
class Trainer:
    """Trains one step after the other, saves after each, and resumes from the last acknowledged state."""

    url: str
    step: int = 0
    limit: int = 4  # it waits there, so that a reference run need not be long
    acknowledged: list[str] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)  # path of a sampler checkpoint -> its step
    num_resumed: int = 0
    epoch: int = 0  # of the API process; the SDK would wait minutes for one that was killed
    stop: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None
    _state: str | None = None

    def run(self) -> None:
        """Train until told to stop, in as many lives as it takes."""
        try:
            while not self.stop.is_set():
                try:
                    self._live(self.epoch)
                except (tinker.TinkerError, RetryableException, AbandonedError):
                    self.num_resumed += 1
                    time.sleep(_POLL_S)
        except BaseException as error:
            self.failure = error
            raise

    def _live(self, epoch: int) -> None:
        wait = self._waiter(epoch)
        service = tinker.ServiceClient(base_url=self.url, api_key=f"tml-{API_KEY}")
        try:
            client = wait(self._open(service))
            while not self.stop.is_set():
                if self.step < self.limit:
                    self._one_step(client, wait)
                time.sleep(0.01)
        finally:
            service.holder.close()

    def _open(self, service: tinker.ServiceClient) -> Any:
        if self._state is None:
            return service.create_lora_training_client(BASE, rank=4, seed=SEED)
        return service.create_training_client_from_state_with_optimizer(self._state)

    def _one_step(self, client: tinker.TrainingClient, wait: Callable[[Any], Any]) -> None:
        step = self.step + 1
        passed = client.forward_backward([datum(step)], "cross_entropy")
        stepped = client.optim_step(tinker.AdamParams(learning_rate=1e-2))
        # Names are never given twice, and an attempt whose answer was lost may have used one up.
        name = f"step-{step}-life-{self.num_resumed}"
        saves = client.save_state(name), client.save_weights_for_sampler(name)
        wait(passed)
        wait(stepped)
        state, weights = (wait(save).path for save in saves)
        self.acknowledged += [state, weights]
        self.weights[weights] = step
        self._state, self.step = state, step

    def _waiter(self, epoch: int) -> Callable[[Any], Any]:
        def wait(promise: Any) -> Any:
            future: Future[Any] = promise.future()
            deadline = time.monotonic() + _PATIENCE_S
            while time.monotonic() < deadline:
                try:
                    return future.result(_POLL_S)
                except FutureTimeoutError:
                    if self.epoch != epoch:
                        future.cancel()
                        raise AbandonedError from None
            raise AssertionError(f"no answer for {_PATIENCE_S:.0f} s")

        return wait


def train_undisturbed(url: str, num_steps: int) -> dict[int, tuple[str, str]]:
    """The same steps with nobody killed: the paths of the state and the weights after each."""
    service = tinker.ServiceClient(base_url=url, api_key=f"tml-{API_KEY}")
    client = service.create_lora_training_client(BASE, rank=4, seed=SEED).result()
    paths: dict[int, tuple[str, str]] = {}
    for step in range(1, num_steps + 1):
        client.forward_backward([datum(step)], "cross_entropy").result()
        client.optim_step(tinker.AdamParams(learning_rate=1e-2)).result()
        saves = client.save_state(f"reference-{step}"), client.save_weights_for_sampler(f"reference-{step}")
        paths[step] = tuple(save.result().path for save in saves)
    service.close("success").result()
    return paths


def ask(http: httpx2.Client, model: str, question: int) -> tuple[int, tuple[int, ...]]:
    """The status and the greedy answer's tokens."""
    body = {
        "model": model, "messages": [{"role": "user", "content": f"question {question}"}], "temperature": 0,
        "max_tokens": MAX_TOKENS, "return_token_ids": True,
    }  # fmt: skip
    answer = http.post("/v1/chat/completions", json=body)
    if answer.status_code != 200:
        return answer.status_code, ()
    return 200, tuple(answer.json()["choices"][0]["token_ids"])


@dataclass(slots=True)
class Asker:
    """Asks the weights that were acknowledged, new and old."""

    url: str
    trainer: Trainer
    answers: list[tuple[str, int, tuple[int, ...]]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)  # statuses
    num_cut: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        chance = random.Random(0)
        with httpx2.Client(base_url=self.url, headers={"X-API-Key": API_KEY}, timeout=60) as http:
            while not self.stop.is_set():
                known = list(self.trainer.weights)
                if not known:
                    time.sleep(_POLL_S)
                    continue
                model = known[-1] if chance.random() < 0.7 else chance.choice(known)
                self._ask(http, model, chance.randrange(4))

    def _ask(self, http: httpx2.Client, model: str, question: int) -> None:
        try:
            status, tokens = ask(http, model, question)
        except httpx2.TransportError:
            self.num_cut += 1
            time.sleep(_POLL_S)
            return
        if status == 200:
            self.answers.append((model, question, tokens))
        else:
            self.refused.append(status)
            time.sleep(_POLL_S)
