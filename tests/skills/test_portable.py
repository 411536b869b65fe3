"""Skills that come from elsewhere and go elsewhere: real folders and zips, friendly and not."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path

import pytest

from metaclaw.errors import SkillError
from metaclaw.skills import packages
from metaclaw.skills.exporting import Exported, export_skills, portable_text
from metaclaw.skills.importing import Imported, import_skills
from metaclaw.skills.openclaw_folders import openclaw_skills
from metaclaw.skills.packages import read_packages
from metaclaw.skills.skill import parse_text, read_skill
from metaclaw.skills.writer import SkillWriter

NOTES = "---\nname: notes # mine\ndescription: Takes notes\nhomepage: https://example.org\n---\n\nDo it.\n"


def make_skill(folder: Path, text: str = NOTES) -> Path:
    for path, content in (("SKILL.md", text), ("references/more.md", "More."), ("scripts/run.sh", "#!/bin/sh\n")):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    (folder / "scripts" / "run.sh").chmod(0o755)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("private")
    return folder


def make_zip(path: Path, entries: dict[str, str], *, mode: int = stat.S_IFREG | 0o644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def bring(source: Path, root: Path, *, force: bool = False) -> list[Imported]:
    return import_skills(source, "main", writer=SkillWriter(root), now=1_800_000_000.0, force=force)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_brought_with_its_files_and_says_where_it_came_from(tmp_path: Path):
    make_skill(tmp_path / "theirs" / "notes")
    [one] = bring(tmp_path / "theirs", tmp_path / "skills")
    folder = tmp_path / "skills" / "main" / "notes"
    assert (one.folder, one.num_files, one.changed) == (folder, 3, True)
    assert files(folder) == {"SKILL.md", "references/more.md", "scripts/run.sh"}
    assert os.access(folder / "scripts" / "run.sh", os.X_OK)
    text = (folder / "SKILL.md").read_text()
    assert "name: notes # mine\n" in text
    assert "homepage: https://example.org\n" in text
    metadata = read_skill(folder).metadata
    assert metadata["imported-from"] == "theirs/notes"
    assert metadata["imported-at"] == "2027-01-15T08:00:00+00:00"
    assert [version.by for version in SkillWriter(tmp_path / "skills").history.log()] == ["import"]


def test_a_zip_of_a_repository_is_brought_whatever_its_folders_are_called(tmp_path: Path):
    archive = make_zip(
        tmp_path / "skills-main.zip",
        {"repo-main/README.md": "no skill", "repo-main/src/Notes/SKILL.md": NOTES, "repo-main/src/Notes/a.txt": "a"},
    )
    [one] = bring(archive, tmp_path / "skills")
    assert files(one.folder) == {"SKILL.md", "a.txt"}
    [flat] = bring(make_zip(tmp_path / "x.zip", {"SKILL.md": NOTES.replace("notes", "other")}), tmp_path / "skills")
    assert flat.name == "other"


@pytest.mark.parametrize(
    "name", ["../evil.txt", "notes/../../evil.txt", "/evil.txt", "notes\\..\\evil.txt", "C:/evil.txt", "a\x00b", "a\nb"]
)
def test_a_path_that_leads_elsewhere_is_refused_before_anything_is_written(tmp_path: Path, name: str):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("notes/SKILL.md", NOTES)
        info = zipfile.ZipInfo("placeholder")
        info.filename = name
        opened.writestr(info, "evil")
    try:
        bring(archive, tmp_path / "skills")
    except SkillError:
        assert not (tmp_path / "skills" / "main").exists()
    else:  # the zip module itself cut the name at its NUL
        assert "\x00" in name
    assert not list(tmp_path.rglob("*evil*"))


def test_links_are_refused_not_followed(tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    archive = make_zip(tmp_path / "x.zip", {"notes/SKILL.md": NOTES, "notes/link": "../../secret"}, mode=stat.S_IFLNK)
    with pytest.raises(SkillError, match="link or a device"):
        bring(archive, tmp_path / "skills")
    folder = make_skill(tmp_path / "theirs" / "notes")
    (folder / "references" / "link.md").symlink_to(tmp_path / "secret")
    with pytest.raises(SkillError, match="is a link"):
        bring(folder, tmp_path / "skills")
    assert not (tmp_path / "skills").exists()


def test_limits_count_what_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bomb = make_zip(
        tmp_path / "bomb.zip", {"notes/SKILL.md": NOTES, "notes/zeros": "0" * (packages.MAX_FILE_BYTES + 1)}
    )
    assert bomb.stat().st_size < 20_000
    with pytest.raises(SkillError, match="larger than 5 MiB"):
        read_packages(bomb)
    monkeypatch.setattr(packages, "MAX_FILES", 3)
    with pytest.raises(SkillError, match="more than 3 files"):
        read_packages(make_zip(tmp_path / "many.zip", {f"notes/{n}": "" for n in range(4)} | {"notes/SKILL.md": NOTES}))


def test_what_is_no_skill_is_one_sentence(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "torn.zip").write_bytes(make_zip(tmp_path / "x.zip", {"SKILL.md": NOTES * 99}).read_bytes()[40:])
    for source in ("empty", "text.zip", "torn.zip", "missing"):
        with pytest.raises(SkillError, match=source):
            read_packages(tmp_path / source)


def test_one_unsound_skill_or_one_that_is_there_keeps_all_of_them_out(tmp_path: Path):
    root = tmp_path / "skills"
    make_skill(tmp_path / "theirs" / "notes")
    bad = make_skill(tmp_path / "theirs" / "bad", NOTES.replace("notes", "../bad"))
    with pytest.raises(SkillError, match=r"theirs/bad/SKILL.md:2: name '../bad'"):
        bring(tmp_path / "theirs", root)
    assert not root.exists()
    (bad / "SKILL.md").write_text(NOTES.replace("notes", "bad"))
    SkillWriter(root).write("main", NOTES.replace("Do it", "My own"), by="human")
    with pytest.raises(SkillError, match="main has notes already"):
        bring(tmp_path / "theirs", root)
    assert not (root / "main" / "bad").exists()
    assert [one.changed for one in bring(tmp_path / "theirs", root, force=True)] == [True, True]
    assert [one.changed for one in bring(tmp_path / "theirs", root)] == [False, False]
    SkillWriter(root).rollback("main", "notes")
    assert read_skill(root / "main" / "notes").body == "My own."


def export(root: Path, target: Path, *, force: bool = False) -> Exported:
    [one] = export_skills([root / "main" / "notes"], target, force=force)
    return one


def test_an_export_keeps_the_files_and_leaves_alone_what_is_not_ours(tmp_path: Path):
    root, target = tmp_path / "skills", tmp_path / "out"
    folder = make_skill(root / "main" / "notes")
    assert export(root, target).state == "written"
    assert files(target / "notes") == {"SKILL.md", "references/more.md", "scripts/run.sh"}
    assert os.access(target / "notes" / "scripts" / "run.sh", os.X_OK)
    assert "homepage" not in (target / "notes" / "SKILL.md").read_text()
    assert export(root, target).state == "unchanged"

    (folder / "SKILL.md").write_text(NOTES.replace("Do it", "Otherwise"))
    (folder / "references" / "more.md").unlink()
    assert export(root, target).state == "written"
    assert "Otherwise" in (target / "notes" / "SKILL.md").read_text()
    assert files(target / "notes") == {"SKILL.md", "scripts/run.sh"}

    (target / "notes" / "SKILL.md").write_text("theirs by now")
    refused = export(root, target)
    assert (refused.state, refused.foreign) == ("refused", ("SKILL.md",))
    assert (target / "notes" / "SKILL.md").read_text() == "theirs by now"
    assert export(root, target, force=True).state == "written"
    assert export(root, target).state == "unchanged"


def test_an_export_writes_through_no_link(tmp_path: Path):
    root, target, private = tmp_path / "skills", tmp_path / "out", tmp_path / "private"
    make_skill(root / "main" / "notes")
    private.mkdir()
    (private / "run.sh").write_text("private")
    (target / "notes").mkdir(parents=True)
    (target / "notes" / "scripts").symlink_to(private)
    refused = export(root, target)
    assert (refused.state, refused.foreign) == ("refused", ("scripts/run.sh",))
    assert (private / "run.sh").read_text() == "private"


def test_a_list_of_ours_that_somebody_forged_removes_nothing_outside(tmp_path: Path):
    root, target = tmp_path / "skills", tmp_path / "out"
    make_skill(root / "main" / "notes")
    target.mkdir()
    (tmp_path / "precious").write_text("")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    forged = {"skills": {"notes": {"../../precious": empty, str(tmp_path / "precious"): empty}}}
    (target / ".metaclaw-export.json").write_text(json.dumps(forged))
    export(root, target)
    assert (tmp_path / "precious").exists()


def test_openclaw_gets_the_fields_that_its_own_check_allows():
    text = (
        "---\nname: notes\ndescription: Notes in <b>\nlicense: MIT\ncompatibility: needs git\nallowed-tools: Read\n"
        "category: coding\nmetadata:\n  openclaw:\n    always: true\n---\nDo it.\n"
    )
    skill = parse_text(text, "SKILL.md")
    fields = portable_text(skill, for_openclaw=True).split("---")[1]
    assert {line.split(":")[0] for line in fields.splitlines() if line and line[0] != " "} == {
        "name", "description", "license", "metadata",
    }  # fmt: skip
    assert "<" not in fields
    again = parse_text(portable_text(skill, for_openclaw=True), "SKILL.md")
    assert again.category == "coding"
    assert again.metadata["openclaw"] == {"always": True}
    assert "compatibility: needs git" in portable_text(skill)


def test_openclaws_folders_are_found_or_the_error_says_what_to_do(tmp_path: Path):
    state = tmp_path / ".openclaw"
    with pytest.raises(SkillError, match="--to"):
        openclaw_skills(None, env={}, home=tmp_path)
    for folder in ("workspace", "ops-place", "workspace-lab"):
        (state / folder).mkdir(parents=True)
    entries = {"main": {}, "ops": {"workspace": "~/.openclaw/ops-place"}, "lab": {}, "gone": {"workspace": "/nowhere"}}
    (state / "openclaw.json").write_text(json.dumps({"agents": {"entries": entries}}))
    found = {
        agent: openclaw_skills(agent, env={}, home=tmp_path).relative_to(state).as_posix()
        for agent in (None, "main", "ops", "lab")
    }
    assert found == {
        None: "skills", "main": "workspace/skills", "ops": "ops-place/skills", "lab": "workspace-lab/skills"
    }  # fmt: skip
    for agent in ("gone", "stranger"):
        with pytest.raises(SkillError, match="--to"):
            openclaw_skills(agent, env={}, home=tmp_path)
    (state / "openclaw.json").write_text("{ // JSON5\n}")
    with pytest.raises(SkillError, match="--to"):
        openclaw_skills("main", env={"OPENCLAW_STATE_DIR": str(state)}, home=tmp_path)
