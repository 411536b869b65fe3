"""Archives of agents that somebody else made: nothing of one lands outside its folder, and none takes a key along."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from metaclaw.cli.agent_archive import MANIFEST, unpack_archive, without_secrets, write_archive
from metaclaw.errors import InvalidRequestError


def archive(path: Path, files: Mapping[str, bytes | tarfile.TarInfo]) -> Path:
    """One whose manifest fits its ``files``, whatever they are called and are."""
    contents = {name: body if isinstance(body, bytes) else b"" for name, body in files.items()}
    kept = {name: {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in contents.items()}
    manifest: dict[str, Any] = {"format": 1, "metaclaw": "1", "agent": "a", "made_at": 1.0, "files": kept}
    with tarfile.open(path, "w:gz") as out:
        for name, body in ((MANIFEST, json.dumps(manifest).encode()), *files.items()):
            if isinstance(body, tarfile.TarInfo):
                out.addfile(body)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(body)
                out.addfile(member, io.BytesIO(body))
    return path


@pytest.mark.parametrize(
    "name",
    ["skills/../../x", "../x", "/etc/x", "skills/..", "a/../x", "a/./x", "a//x", "a/ /x", "a\\..\\x", "", "..", ".x"],
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    """PITFALLS S2: a name that somebody else made up was used as a path."""
    folder = tmp_path / "far" / "below" / "unpacked"
    folder.mkdir(parents=True)
    source = archive(tmp_path / "bad.tar.gz", {"memories.jsonl": b"{}", name: b"evil"})
    with pytest.raises(InvalidRequestError, match="no place in an archive"):
        unpack_archive(source, folder)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [source]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    """PITFALLS S2."""
    (folder := tmp_path / "unpacked").mkdir()
    member = tarfile.TarInfo("memories.jsonl")
    member.type, member.linkname = kind, "/etc/hostname"
    source = archive(tmp_path / "bad.tar.gz", {"memories.jsonl": member})
    with pytest.raises(InvalidRequestError, match="is not as"):
        unpack_archive(source, folder)
    assert list(folder.iterdir()) == []


def test_an_archive_is_its_owners_alone_and_what_is_secret_in_settings_stays_at_home(tmp_path: Path) -> None:
    """PITFALLS S6: keys in plain text, with default permissions."""
    group = {"mode": "rl", "llm": {"api_key": "sk-1", "model_id": "m"}, "oauth_token": "t", "limits": {"tokens": 9}}
    assert without_secrets(group) == {"mode": "rl", "llm": {"model_id": "m"}, "limits": {"tokens": 9}}
    target = tmp_path / "one.tar.gz"
    write_archive(target, "a", {"memories.jsonl": b"{}"}, [])
    assert target.stat().st_mode & 0o777 == 0o600
    (folder := tmp_path / "unpacked").mkdir()
    assert set(unpack_archive(target, folder).files) == {"memories.jsonl"}
