"""A folder in which an agent's adapter also lies, for other programs (``agents.ID.lora_output``).

Owns what is written there and in which order; refuses to know where adapters come from. Invariants: whoever reads there
finds a whole adapter as PEFT has it, or none, never halves of two; and what somebody else put there is not replaced.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from metaclaw.errors import ConflictError

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
MARK = "metaclaw.json"
_NOT_YET = -1  # of a mark: no version lies there whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Which version lies there."""

    agent: str
    version: int
    path: str


def lies_there(place: Path) -> Mark | None:
    """What was written to ``place`` last, if its files are there still."""
    if not (place / WEIGHTS_FILE).is_file() or not (place / CONFIG_FILE).is_file():
        return None
    try:
        return Mark(**json.loads((place / MARK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def put(place: Path, files: Path, mark: Mark) -> None:
    """Write the adapter of the folder ``files``. Raises ``ConflictError`` for what is not ours, ``OSError``."""
    _check(place, mark.agent)
    place.mkdir(parents=True, exist_ok=True)
    if _differ(place / CONFIG_FILE, files / CONFIG_FILE):
        (place / WEIGHTS_FILE).unlink(missing_ok=True)  # those of another rank: a reader may have one config only
    if not (place / MARK).exists():  # what is ours is known as ours, whenever this is cut off
        _mark(place, replace(mark, version=_NOT_YET))
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        _copy(files / name, place / name)
    _mark(place, mark)
    _sync(place)


def clear(place: Path) -> None:
    """Take our adapter away: the base model serves."""
    if not (place / MARK).exists():
        return
    for name in (WEIGHTS_FILE, CONFIG_FILE, MARK):
        (place / name).unlink(missing_ok=True)


def _check(place: Path, agent: str) -> None:
    if not (place / MARK).exists() and ((place / WEIGHTS_FILE).exists() or (place / CONFIG_FILE).exists()):
        raise ConflictError(
            f"{place} holds an adapter that MetaClaw did not write: empty it, or set agents.{agent}.lora_output"
            " to another folder"
        )


def _differ(there: Path, fresh: Path) -> bool:
    return not there.exists() or there.read_bytes() != fresh.read_bytes()


def _copy(source: Path, target: Path) -> None:
    beside = target.with_name(f".{target.name}.partial")
    shutil.copyfile(source, beside)
    with beside.open("rb+") as file:
        os.fsync(file.fileno())
    beside.replace(target)


def _mark(place: Path, mark: Mark) -> None:
    target, content = place / MARK, json.dumps(asdict(mark)).encode()
    beside = target.with_name(f".{target.name}.partial")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(target)


def _sync(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
