"""Optional packages: loaded here, or refused with the name of the extra that installs them.

Owns the one import at run time outside ``cli``; refuses to know what is loaded. Invariant: a missing optional
package is a ``MissingExtraError`` with the command that helps, never a traceback.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from metaclaw.errors import MissingExtraError


def load_backend(module: str, *, extra: str) -> ModuleType:
    """Import ``module``, which needs the packages of ``extra``.

    Raises ``MissingExtraError`` when one of them is absent. A mistake in our own code stays the ``ImportError`` it is.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "metaclaw":
            raise
        raise MissingExtraError(
            f'this needs the package {error.name!r}, which is not installed: pip install "metaclaw[{extra}]"'
        ) from error
