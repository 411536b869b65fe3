"""The one place that loads what the ``rl`` extra installs.

Owns the environment that the Tinker SDK is imported in; refuses to know what it is used for. Invariant: without the
extra the error names it, and the SDK can neither report on its user nor run a command to find a credential.
"""

from __future__ import annotations

import importlib
import os
import secrets
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, cast

from metaclaw.config import RlSettings, Settings
from metaclaw.errors import MissingExtraError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.policy_holds import PolicyHolds
from metaclaw.learner.gate.examination import Examiner

if TYPE_CHECKING:
    import aiohttp

    from metaclaw.journal.paid_calls import CallBook
    from metaclaw.learner.backends.backend import TrainingBackend
    from metaclaw.learner.distillation.teaching import Teaching
    from metaclaw.learner.rollouts import Rollouts
    from metaclaw.learner.update import Updater

_OURS = "metaclaw.learner.backends.tinker_sdk"
_CLOUD = "metaclaw.learner.backends.sdk_child"


def load_backend(settings: RlSettings) -> TrainingBackend:
    """The backend that ``rl.backend`` names.

    Raises ``MissingExtraError`` when its packages are not installed, ``ConfigError`` when it has no URL or key.
    """
    if settings.is_cloud:
        return _module(_CLOUD).create(settings)
    os.environ["TINKER_TELEMETRY"] = "0"
    os.environ.pop("TINKER_CREDENTIAL_CMD", None)  # a server's answer can make the SDK run it in a shell
    return _module(_OURS).create(settings)


def load_updater(
    settings: Settings,
    journal: LearningJournal,
    gate: Examiner,
    holds: PolicyHolds,
    rollouts: Rollouts | None = None,
    teaching: Teaching | None = None,
) -> Updater:
    """What makes updates with the configured backend. Raises as ``load_backend`` does."""
    made_of = _module("metaclaw.learner.update_parts")
    parts = made_of.UpdateParts(
        journal=journal,
        turns_db=settings.turns_db,
        holds=holds,
        backend=load_backend(settings.rl),
        gate=gate,
        rollouts=rollouts,
        **({} if teaching is None else {"teaching": teaching}),
    )
    rules = made_of.UpdateRules.of(settings)
    return _module("metaclaw.learner.update").Updater(parts, rules, new_suffix=lambda: secrets.token_hex(4))


def load_teaching(
    settings: Settings, journal: LearningJournal, session: aiohttp.ClientSession, book: CallBook | None
) -> Teaching:
    """What an update is taught beside its rewards; ``session`` and ``book`` must stay open.

    Raises ``MissingExtraError``.
    """
    return _module("metaclaw.learner.distillation.teaching").teaching_for(settings, journal, session, book)


@contextmanager
def torch_kept_out() -> Generator[None]:
    """Import the SDK without torch, which it takes along where it is installed and which the learner never needs.

    Measured: 63 MB instead of 248, and a quarter of the start. A verifier may still import torch, before or after.
    """
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    if "torch" in modules:
        yield
        return
    modules["torch"] = None
    try:
        yield
    finally:
        del modules["torch"]


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"training needs {error.name or 'more packages'}: pip install 'metaclaw[rl]'"
        ) from error
