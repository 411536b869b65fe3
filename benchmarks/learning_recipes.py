"""The rows of ``benchmarks/learning.py``: what is done with the same samples.

Owns the recipes and their names; refuses to know models. Invariant: a recipe's name says all that it differs in.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from metaclaw.config import MethodName, UpdateSettings

REFERENCE = "reference"
RATES = (1e-4, 3e-4, 6e-4, 1e-3)  # the grid, the same for ours and for the reference's
OUR_RATE = 3e-4  # what the documentation says for a model of this size
ONCE_RATE = 6e-4  # where a loss lets an update go through its answers but once
OURS = f"ema_baseline/ppo/{OUR_RATE:g}"
_METHODS: dict[str, MethodName] = {"rewards": "rewards", "opd": "opd", "self": "self_distillation"}
_CHANGES = {*_METHODS, "stale", "batch", "warmup", "steps", "passes", "kl", "pull"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How many judged answers make an update, and what is done with them.

    ``staleness``: so many updates pass between drawing an answer and training on it. ``answers``: to each question.
    """

    name: str
    update: UpdateSettings
    batch: int = 16
    staleness: int = 0
    answers: int = 1
    is_reference: bool = False


def recipe(name: str) -> Recipe:
    """``reference/RATE``, also with ``/passes=N`` (so many steps on the same answers, which it does not do), or
    ``ADVANTAGE/LOSS/RATE`` with our defaults but for ``/stale``, ``/opd`` (a teacher in place of the rewards),
    ``/self`` (what the user says next in their place; ``/self/rewards``: beside them), ``/batch=N``, ``/warmup=N``,
    ``/steps=N``, ``/passes=N``, ``/kl=NATS`` and ``/pull=WEIGHT`` (of the base model).

    Raises ``ValueError`` for a name that is neither.
    """
    first, *others = name.split("/")
    num_fixed = 1 if first == REFERENCE else 2
    changes = dict(part.partition("=")[::2] for part in others[num_fixed:])
    if first == REFERENCE and others and not changes.keys() - {"passes"}:
        # What it does: a step for each four answers, at one rate from the start, and nothing that limits it.
        update = UpdateSettings(
            advantage="batch_zscore", loss="importance_sampling", learning_rate=float(others[0]), warmup_steps=0,
            passes=int(changes.get("passes", 1)),
        )  # fmt: skip
        return Recipe(name=name, update=update, batch=4, is_reference=True)
    if first == REFERENCE or len(others) < num_fixed or changes.keys() - _CHANGES:
        raise ValueError(
            f"{name!r} is neither reference/RATE nor ADVANTAGE/LOSS/RATE, with /stale, /opd, /self, /rewards, /batch=N,"
            " /warmup=N, /steps=N, /passes=N, /kl=NATS, /pull=WEIGHT"
        )
    batch = int(changes.get("batch", UpdateSettings().min_exchanges))
    update = UpdateSettings.model_validate(
        {
            "advantage": first, "loss": others[0], "learning_rate": float(others[1]), "min_exchanges": batch,
            "min_informative": batch // 2,
            "methods": _methods(changes),
            "max_kl": float(changes.get("kl", UpdateSettings().max_kl)),
            "reference_kl": float(changes.get("pull", 0.0)),
            "steps": int(changes.get("steps", UpdateSettings().steps)),
            "passes": int(changes.get("passes", UpdateSettings().passes)),
            "warmup_steps": int(changes.get("warmup", UpdateSettings().warmup_steps)),
        }
    )  # fmt: skip
    return Recipe(
        name=name, update=update, batch=batch, staleness=int("stale" in changes), answers=4 if first == "group" else 1,
    )  # fmt: skip


def _methods(changes: Collection[str]) -> tuple[MethodName, ...]:
    return tuple(method for name, method in _METHODS.items() if name in changes) or ("rewards",)
