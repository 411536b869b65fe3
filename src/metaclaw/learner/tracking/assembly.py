"""Which tracker the settings ask for.

Owns the choice; refuses to know how any of them works. Invariant: none is imported that was not asked for.
"""

from __future__ import annotations

import secrets

from metaclaw.config import Settings
from metaclaw.extras import load_backend
from metaclaw.learner.tracking.following import Tracking
from metaclaw.learner.tracking.tracker import Tracker

_MODULES = {
    "tensorboard": "metaclaw.learner.tracking.tensorboard_files",
    "wandb": "metaclaw.learner.tracking.wandb_runs",
}


def tracking_for(settings: Settings) -> Tracking | None:
    """The job, or ``None`` where nobody is to be told. Raises ``MissingExtraError``."""
    kind = settings.rl.tracking
    if kind == "none":
        return None
    module, folder = load_backend(_MODULES[kind], extra="tracking"), settings.tracking_dir

    def make(home: str) -> Tracker:
        return module.create(folder / kind, home)

    return Tracking(
        learning_db=settings.learning_db,
        state=folder / f"{kind}.json",
        make=make,
        new_home=lambda: secrets.token_hex(4),
    )
