"""A trainer in memory: the smallest policy that really learns, a table of logits over the tokens.

It keeps the promises of ``TrainingBackend`` (the contract suite holds it and the real thing to them) and fails where it
is told to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from metaclaw.learner.backends.backend import LostStateError, Pass, RefusedDataError, SavedWeights
from metaclaw.learner.datums import AnyGroup, Datum, DatumGroup, LikelyDatum

VOCABULARY = 16


def log_softmax(logits_V: np.ndarray, temperature: float) -> np.ndarray:
    scaled_V = logits_V / temperature
    return scaled_V - np.log(np.sum(np.exp(scaled_V)))


@dataclass(slots=True)
class FakeTrainer:
    """Saved weights by path. ``failures`` maps the name of a call to what it raises, once;
    ``when`` to what happens then, once."""

    saved: dict[str, np.ndarray] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    when: dict[str, Callable[[], object]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)  # of each pass with gradients
    ranks: list[int] = field(default_factory=list)  # of adapters that were not to have that of all
    refuses: Callable[[AnyGroup], bool] = lambda group: False
    num_open: int = 0
    is_closed: bool = False
    seed: int = 0

    async def open(self, state_path: str | None, *, rank: int | None = None) -> FakeRun:
        self.reached("open")
        if rank is not None:
            self.ranks.append(rank)
        run = FakeRun(self, self.logits(state_path).copy())
        self.num_open += 1
        return run

    async def num_parameters(self, base_model: str) -> int | None:
        return VOCABULARY

    async def saved_as(self, name: str, *, run: str) -> list[str]:
        self.reached("saved_as")
        return [path for path in self.saved if path.startswith(f"tinker://{run}/") and path.endswith(f"/{name}")]

    async def delete(self, paths: Sequence[str]) -> None:
        self.reached("delete")
        for path in paths:
            self.saved.pop(path, None)

    async def close(self) -> None:
        self.is_closed = True

    def reached(self, call: str) -> None:
        self.calls.append(call)
        self.when.pop(call, lambda: None)()
        if call in self.failures:
            raise self.failures.pop(call)

    def logits(self, path: str | None) -> np.ndarray:
        if path is None:
            return np.random.default_rng(self.seed).normal(size=VOCABULARY)
        if path not in self.saved:
            raise LostStateError(f"{path} does not exist")
        return self.saved[path]


class FakeRun:
    base_model = "table"
    id = "fake"

    def __init__(self, trainer: FakeTrainer, logits_V: np.ndarray) -> None:
        self._trainer = trainer
        self._logits_V = logits_V
        self._gradient_V = np.zeros_like(logits_V)
        self._is_broken = False

    async def forward_backward(self, groups: Sequence[AnyGroup]) -> Pass:
        self._trainer.reached("forward_backward")
        self._refuse(groups)
        self._trainer.sequences.append(sum(len(group.data) for group in groups))
        for group in groups:
            temperature = group.config.get("temperature", 1.0)
            probabilities_V = np.exp(log_softmax(self._logits_V, temperature))
            if not isinstance(group, DatumGroup):
                for datum in group.data:
                    for target, weight in zip(datum.likely.targets_TK.flat, datum.likely.weights_TK.flat, strict=True):
                        self._gradient_V -= weight * (np.eye(VOCABULARY)[target] - probabilities_V)
                continue
            for datum in group.data:
                for target, advantage in zip(datum.targets_T, datum.advantages_T, strict=True):
                    one_hot_V = np.eye(VOCABULARY)[target]
                    self._gradient_V -= advantage * (one_hot_V - probabilities_V) / temperature
        return self._pass(groups)

    async def forward(self, groups: Sequence[AnyGroup]) -> Pass:
        self._trainer.reached("forward")
        self._refuse(groups)
        return self._pass(groups)

    async def optim_step(self, *, learning_rate: float, grad_clip_norm: float) -> Mapping[str, float]:
        self._trainer.reached("optim_step")
        norm = float(np.linalg.norm(self._gradient_V))
        scale = min(1.0, grad_clip_norm / norm) if norm else 0.0
        self._logits_V = self._logits_V - learning_rate * np.sign(self._gradient_V) * (scale > 0)
        self._gradient_V = np.zeros_like(self._gradient_V)
        return {"grad_norm": norm}

    async def save(self, name: str) -> SavedWeights:
        self._trainer.reached("save")
        paths = SavedWeights(
            name=name,
            state_path=f"tinker://fake/weights/{name}",
            sampler_path=f"tinker://fake/sampler_weights/{name}",
        )
        for path in (paths.state_path, paths.sampler_path):
            assert path not in self._trainer.saved, "a name was used twice"
            self._trainer.saved[path] = self._logits_V.copy()
        return paths

    async def warm(self, sampler_path: str) -> None:
        self._trainer.reached("warm")
        self._trainer.logits(sampler_path)

    async def close(self) -> None:
        self._trainer.calls.append("close")
        self._trainer.num_open -= 1

    def _refuse(self, groups: Sequence[AnyGroup]) -> None:
        assert not self._is_broken, "a run was used after an error"
        if any(map(self._trainer.refuses, groups)):
            self._is_broken = True
            raise RefusedDataError("it cannot be told")

    def _pass(self, groups: Sequence[AnyGroup]) -> Pass:
        logprobs = [
            log_softmax(self._logits_V, group.config.get("temperature", 1.0))[_targets(datum)].astype(np.float32)
            for group in groups
            for datum in group.data
        ]
        return Pass(logprobs=tuple(logprobs), metrics={"loss:sum": 0.0})


def _targets(datum: Datum | LikelyDatum) -> np.ndarray:
    return datum.targets_T if isinstance(datum, Datum) else datum.likely.targets_TK
