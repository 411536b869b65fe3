"""Datums and commands that the engine's tests share, and how they look at an engine's gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metaclaw.training.commands import CreateModel, Datum, ForwardBackward, OptimStep, SaveSampler
from metaclaw.training.engine import Engine

VOCABULARY = 263


def supervised(length: int, *, seed: int = 0, weight: float = 1.0, num_targets: int | None = None) -> Datum:
    """Random tokens with a random target or targets a position."""
    rng = np.random.default_rng([seed, length])
    shape = (length,) if num_targets is None else (length, num_targets)
    return Datum(
        tokens=rng.integers(0, VOCABULARY, length, dtype=np.int32),
        inputs={
            "target_tokens": rng.integers(0, VOCABULARY, shape, dtype=np.int64),
            "weights": np.full(shape, weight, np.float32),
        },
    )


def policy(length: int, *, seed: int = 0, prompt: int = 2) -> Datum:
    """Random tokens with advantages of both signs, none on the first ``prompt`` positions."""
    rng = np.random.default_rng([seed, length, 1])
    advantages = rng.normal(size=length).astype(np.float32)
    advantages[:prompt] = 0
    return Datum(
        tokens=rng.integers(0, VOCABULARY, length, dtype=np.int32),
        inputs={
            "target_tokens": rng.integers(0, VOCABULARY, length, dtype=np.int64),
            "logprobs": (-5.5 + rng.normal(size=length)).astype(np.float32),
            "advantages": advantages,
        },
    )


def with_inputs(datum: Datum, **inputs: np.ndarray | None) -> Datum:
    """``datum`` with inputs replaced, or taken away where ``None``."""
    changed = datum.inputs | inputs
    return Datum(tokens=datum.tokens, inputs={name: array for name, array in changed.items() if array is not None})


def create(engine: Engine, model_id: str = "m", **settings: object) -> str:
    engine.execute(CreateModel(**{"model_id": model_id, "rank": 4, "alpha": 32.0, "seed": 7} | settings))
    return model_id


def train(engine: Engine, model_id: str = "m", *, data: tuple[Datum, ...] = (), steps: int = 2) -> None:
    """A few steps, so that no adapter matrix is zero any more."""
    for step in range(steps):
        batch = data or (supervised(12, seed=step), supervised(7, seed=step))
        forward_backward(engine, batch, model_id=model_id)
        engine.execute(OptimStep(model_id=model_id, learning_rate=5e-3))


def forward_backward(
    engine: Engine,
    data: tuple[Datum, ...],
    loss: str = "cross_entropy",
    *,
    model_id: str = "m",
    forward_only: bool = False,
    **config: float,
) -> dict:
    command = ForwardBackward(model_id=model_id, data=data, loss=loss, config=config, forward_only=forward_only)
    return engine.execute(command)


def gradients(engine: Engine, model_id: str = "m") -> dict[str, np.ndarray]:
    """The accumulated gradients by parameter name; only those that exist."""
    parameters = engine.model(model_id).adapter.parameters
    return {key: value.grad.cpu().numpy().copy() for key, value in parameters.items() if value.grad is not None}


def weights(engine: Engine, model_id: str = "m") -> dict[str, np.ndarray]:
    return {
        key: value.detach().cpu().numpy().copy() for key, value in engine.model(model_id).adapter.parameters.items()
    }


def norm(arrays: dict[str, np.ndarray]) -> float:
    return float(np.sqrt(sum((array.astype(np.float64) ** 2).sum() for array in arrays.values())))


def export(engine: Engine, directory: Path, model_id: str = "m") -> Path:
    engine.execute(SaveSampler(model_id=model_id, directory=str(directory)))
    return directory


def assert_close(left: dict[str, np.ndarray], right: dict[str, np.ndarray], tolerance: float) -> None:
    """Equal within ``tolerance`` of each array's largest value."""
    assert left.keys() == right.keys()
    for key, array in left.items():
        scale = max(float(np.abs(array).max()), 1e-6)
        np.testing.assert_allclose(array / scale, right[key] / scale, atol=tolerance, rtol=0, err_msg=key)
