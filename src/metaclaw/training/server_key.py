"""The training server's own key, when nobody gave it one.

Owns one file of mode 0600; refuses to know who asks. Invariant: the key is made once, and two first starts at the same
time agree on it.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from metaclaw.errors import ConfigError


def stored_key(data_dir: Path) -> tuple[str, bool]:
    """The key kept in ``data_dir``, and whether it was made just now."""
    path = data_dir / "api-key"
    is_new = not path.exists() and _make(path)
    key = path.read_text(encoding="ascii").strip()
    if not key:
        raise ConfigError(f"{path} is empty; delete it to get a new key")
    return key, is_new


def _make(path: Path) -> bool:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".api-key-")  # 0600
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(24) + "\n")
        os.link(temporary, path)  # unlike a rename, this never replaces the key that another start made
    except FileExistsError:
        return False
    finally:
        Path(temporary).unlink()
    return True
