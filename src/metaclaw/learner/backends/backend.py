"""What an update needs of whoever trains.

Owns the protocol and its plain results; refuses to know any SDK. Invariant: every call either returns what the trainer
really did or raises ``BackendError``; after an error the run is closed and never used again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from metaclaw.errors import BackendError
from metaclaw.journal.learning_records import NewVersion
from metaclaw.learner.datums import AnyGroup, Floats


class RefusedDataError(BackendError):
    """The trainer says that the data of a pass is at fault: sending it again cannot help.

    Only ``forward_backward`` and ``forward`` raise it, because it spends the samples.
    """

    code = "training_data_refused"
    retryable: ClassVar[bool] = False


class LostStateError(BackendError):
    """The trainer answers, and does not have a saved state, or will not take it: asking again cannot help."""

    code = "training_state_lost"
    retryable: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A pass over the data: log-probabilities of each datum's targets, in their shape and order, over all groups."""

    logprobs: tuple[Floats, ...]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedWeights:
    """Where a version's two halves lie: to go on training from, and to sample from; ``name`` is what they were saved
    under."""

    name: str
    state_path: str
    sampler_path: str

    def as_version(self, base_model: str) -> NewVersion:
        """What is committed."""
        return NewVersion(
            base_model=base_model, saved_as=self.name, state_path=self.state_path, sampler_path=self.sampler_path
        )


class TrainingRun(Protocol):
    """Weights and optimiser state that live at the trainer."""

    @property
    def id(self) -> str:
        """The trainer's own name of this run, by which it knows what was saved of it."""
        ...

    @property
    def base_model(self) -> str:
        """The trainer's own name of the base model."""
        ...

    async def forward_backward(self, groups: Sequence[AnyGroup]) -> Pass:
        """Add up the gradients of all groups."""
        ...

    async def forward(self, groups: Sequence[AnyGroup]) -> Pass:
        """The same pass without gradients."""
        ...

    async def optim_step(self, *, learning_rate: float, grad_clip_norm: float) -> Mapping[str, float]:
        """One optimiser step over the gradients; returns the trainer's metrics."""
        ...

    async def save(self, name: str) -> SavedWeights:
        """Save the state with its optimiser and the sampler weights under ``name``, which was never used before."""
        ...

    async def warm(self, sampler_path: str) -> None:
        """Draw one token from ``sampler_path``, so that the first user does not wait for its loading."""
        ...

    async def close(self) -> None:
        """Let go of the weights at the trainer. Never raises: whoever closes after an error wants the error."""
        ...


class TrainingBackend(Protocol):
    """A trainer."""

    async def open(self, state_path: str | None, *, rank: int | None = None) -> TrainingRun:
        """Resume from a saved state with its optimiser, or begin a new adapter, by default of rank ``rl.lora_rank``.

        Raises ``LostStateError`` for a state that is gone, or of another base model.
        """
        ...

    async def num_parameters(self, base_model: str) -> int | None:
        """How large the trainer's ``base_model`` is; ``None`` where nobody says. Raises nothing."""
        ...

    async def saved_as(self, name: str, *, run: str) -> list[str]:
        """The paths of what was saved of ``run`` under ``name`` and is there: two, one or none."""
        ...

    async def delete(self, paths: Sequence[str]) -> None:
        """Delete saved states and sampler weights. One that is gone already is no error."""
        ...

    async def close(self) -> None:
        """Let go of what all runs share, after they are closed. Never raises."""
        ...
