"""Which training cloud the settings mean, and the Python that has its SDK.

Owns the names of the SDKs and where their interpreters are looked for; refuses to know what is asked of a cloud.
Invariant: a cloud that is returned has a key and an interpreter that exists; what is missing is said with the setting
that changes it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from platformdirs import user_cache_path

from metaclaw.config import CloudName, RlSettings
from metaclaw.errors import ConfigError, MissingExtraError

_PROGRAMS: Mapping[CloudName, str] = {"tinker": "tinker_family", "mint": "tinker_family", "weaver": "weaver_sdk"}
# What `metaclaw sdk prepare` installs: pinned to a minor version, because each of them has broken its users before.
PACKAGES: Mapping[CloudName, str] = {"mint": "mindlab-toolkit>=0.2,<0.3", "weaver": "nex-weaver>=1.19,<1.20"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """Whom to ask, with what, and by which interpreter. ``base_url`` is empty for the SDK's own."""

    name: CloudName
    api_key: str = field(repr=False)
    base_url: str
    python: Path
    timeout_s: float

    @property
    def program(self) -> str:
        """The module that the interpreter runs."""
        return _PROGRAMS[self.name]

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.name} ({self.base_url})" if self.base_url else self.name


def cloud_of(rl: RlSettings) -> Cloud | None:
    """The cloud of ``rl``; ``None`` for a training server. Raises ``ConfigError`` or ``MissingExtraError``."""
    if rl.backend == "remote" or rl.backend == "auto":
        return None
    key = rl.api_key.get_secret_value()
    if not key:
        raise ConfigError(
            f"rl.api_key is empty: write your key of {rl.backend}, or set {rl.backend.upper()}_API_KEY; or use your "
            "own training server: `metaclaw config rl.backend remote`"
        )
    return Cloud(
        name=rl.backend,
        api_key=key,
        base_url=rl.base_url,
        python=_interpreter(rl.backend, rl.sdk_python),
        timeout_s=rl.remote_timeout_s,
    )


def environment_of(name: CloudName, env: Mapping[str, str] = os.environ) -> Path:
    """Where ``metaclaw sdk prepare`` makes the environment of an SDK: METACLAW_CACHE, or the user's cache directory."""
    cache = env.get("METACLAW_CACHE")
    return (Path(cache).expanduser() if cache else user_cache_path("metaclaw")) / "sdk" / name


def python_in(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _interpreter(name: CloudName, given: Path | None) -> Path:
    if given is not None:
        python = given.expanduser()
        if not python.is_file():
            raise ConfigError(f"rl.sdk_python: there is no program {python}; name a Python that has the SDK of {name}")
        return python
    if name == "tinker":
        return Path(sys.executable)
    python = python_in(environment_of(name))
    if not python.is_file():
        raise MissingExtraError(
            f"the SDK of {name} needs a Python of its own, for its pins are not ours: run `metaclaw sdk prepare "
            f"{name}`, or name a Python that has {PACKAGES[name]} with rl.sdk_python"
        )
    return python
