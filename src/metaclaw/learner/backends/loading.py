"""The one place that loads what the ``rl`` extra installs.

Owns the environment that the Tinker SDK is imported in; refuses to know what it is used for. Invariant: without the
extra the error names it, and the SDK can neither report on its user nor run a command to find a credential.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from metaclaw.config import RlSettings
from metaclaw.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from metaclaw.learner.backends.backend import TrainingBackend

_MODULES = {"remote": "metaclaw.learner.backends.tinker_sdk", "tinker": "metaclaw.learner.backends.tinker_sdk"}


def load_backend(settings: RlSettings) -> TrainingBackend:
    """The backend that ``rl.backend`` names.

    Raises ``MissingExtraError`` when its packages are not installed, ``ConfigError`` when it has no URL or key.
    """
    if settings.backend not in _MODULES:
        raise ConfigError(f"rl.backend {settings.backend!r} is not known: use one of {', '.join(_MODULES)}")
    os.environ["TINKER_TELEMETRY"] = "0"
    os.environ.pop("TINKER_CREDENTIAL_CMD", None)  # a server's answer can make the SDK run it in a shell
    try:
        module = importlib.import_module(_MODULES[settings.backend])
    except ImportError as error:
        raise MissingExtraError(
            f"training needs {error.name or 'more packages'}: pip install 'metaclaw[rl]'"
        ) from error
    return module.create(settings)
