"""``metaclaw skills``, as a person or a script uses it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from metaclaw.skills.retired import set_retired
from tests.cli.programs import metaclaw


def skills(home: Path, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Any:
    done = metaclaw(home, "skills", *arguments, "--json", stdin=stdin, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def add(home: Path, name: str, *arguments: str, body: str = "Do it.") -> Any:
    return skills(home, "add", "--name", name, "--description", f"Does {name}", *arguments, stdin=body)


def editor(folder: Path, old: str, new: str) -> dict[str, str]:
    script = folder / "editor.py"
    script.write_text(
        f"import sys, pathlib\np = pathlib.Path(sys.argv[1])\np.write_text(p.read_text().replace({old!r}, {new!r}))\n"
    )
    return {"EDITOR": f"{sys.executable} {script}", "VISUAL": "", "TMPDIR": str(folder)}


def test_the_starter_skills_are_there_and_are_not_copied(tmp_path: Path):
    listed = skills(tmp_path, "list")
    assert len(listed) >= 40
    assert {one["owner"] for one in listed} == {"_starter"}
    assert not (tmp_path / "skills").exists()
    assert skills(tmp_path, "list", env={"METACLAW_SKILLS_STARTER": "false"}) == []


def test_a_skill_is_added_shown_listed_and_logged(tmp_path: Path):
    made = add(tmp_path, "my-notes", "--agent", "ops", "--why", "asked for")
    assert (made["owner"], made["name"], made["number"], made["changed"]) == ("ops", "my-notes", 1, True)
    shown = skills(tmp_path, "show", "my-notes")
    assert shown["text"] == "---\nname: my-notes\ndescription: Does my-notes\n---\n\nDo it.\n"
    assert shown["path"] == str(tmp_path / "skills" / "ops" / "my-notes" / "SKILL.md")
    [version] = skills(tmp_path, "log")
    assert (version["by"], version["why"]) == ("human", "asked for")
    assert "my-notes" in {one["name"] for one in skills(tmp_path, "list", "--agent", "ops")}
    assert "my-notes" not in {one["name"] for one in skills(tmp_path, "list", "--agent", "main")}


def test_a_whole_file_is_added_and_what_is_there_is_not_replaced_unasked(tmp_path: Path):
    file = tmp_path / "any-name.md"
    file.write_text("---\nname: tidy\ndescription: Tidies\nlicence: MIT\n---\nTidy up.\n")
    done = metaclaw(tmp_path, "skills", "add", str(file))
    assert done.returncode == 0
    assert "did you mean 'license'?" in done.stderr
    file.write_text(file.read_text().replace("Tidy up.", "Clean."))
    again = metaclaw(tmp_path, "skills", "add", str(file))
    assert again.returncode == 1
    assert "there already" in again.stderr
    assert skills(tmp_path, "add", str(file), "--force")["number"] == 2


def test_an_edit_is_checked_before_it_is_written(tmp_path: Path):
    add(tmp_path, "tidy")
    assert skills(tmp_path, "edit", "tidy", env=editor(tmp_path, "Do it", "Do it well"))["number"] == 2
    assert not skills(tmp_path, "edit", "tidy", env=editor(tmp_path, "nothing", ""))["changed"]
    for old, new, says in (("name: tidy", "name: other", "differs from its folder"), ("---\n", "", "begins with")):
        done = metaclaw(tmp_path, "skills", "edit", "tidy", env=editor(tmp_path, old, new))
        assert done.returncode == 1
        assert says in done.stderr
        kept = Path(done.stderr.rsplit(" in ", 1)[1].strip())
        assert "Do it well" in kept.read_text()
    assert "Do it well" in skills(tmp_path, "show", "tidy")["text"]
    assert metaclaw(tmp_path, "skills", "edit", "tidy", env={"EDITOR": "", "VISUAL": ""}).returncode == 2


def test_an_edited_starter_skill_becomes_a_copy_above_it(tmp_path: Path):
    assert not skills(tmp_path, "edit", "regex", env=editor(tmp_path, "nothing", ""))["changed"]
    assert not (tmp_path / "skills").exists()
    edited = skills(tmp_path, "edit", "regex", env=editor(tmp_path, "1. Collect", "1. Always collect"))
    assert edited["owner"] == "_shared"
    seen = {one["name"]: one["owner"] for one in skills(tmp_path, "list", "--agent", "main")}
    assert seen["regex"] == "_shared"


def test_a_retired_and_a_broken_skill_are_listed_as_such(tmp_path: Path):
    set_retired(tmp_path / "skills", "main", "regex", retired=True)
    broken = tmp_path / "skills" / "main" / "broken"
    broken.mkdir(parents=True)
    (broken / "SKILL.md").write_text("no front matter")
    listed = {one["name"]: one for one in skills(tmp_path, "list")}
    assert listed["regex"]["retired_for"] == ["main"]
    assert "broken/SKILL.md:1" in listed["broken"]["error"]
    seen = {one["name"] for one in skills(tmp_path, "list", "--agent", "main")}
    assert not {"regex", "broken"} & seen
    assert "regex" in {one["name"] for one in skills(tmp_path, "list", "--agent", "ops")}


def test_skills_go_out_and_come_in(tmp_path: Path):
    home, out = tmp_path / "home", tmp_path / "out"
    add(home, "shared-one")
    add(home, "own-one", "--agent", "ops")
    assert {one["name"] for one in skills(home, "export", "--to", str(out))} == {"shared-one"}
    assert {one["name"] for one in skills(home, "export", "--to", str(out), "--agent", "ops")} == {
        "shared-one",
        "own-one",
    }
    brought = skills(tmp_path / "other", "import", str(out), "--agent", "lab")
    assert {(one["owner"], one["name"]) for one in brought} == {("lab", "shared-one"), ("lab", "own-one")}
    (out / "own-one" / "SKILL.md").write_text("not ours now")
    refused = metaclaw(home, "skills", "export", "own-one", "--agent", "ops", "--to", str(out))
    assert refused.returncode == 1
    assert "--force" in refused.stdout


def test_an_export_to_openclaw_lands_where_it_looks(tmp_path: Path):
    add(tmp_path, "shared-one")
    state = tmp_path / "claw"
    state.mkdir()
    skills(tmp_path, "export", "regex", "shared-one", "--openclaw", env={"OPENCLAW_STATE_DIR": str(state)})
    assert (state / "skills" / "shared-one" / "SKILL.md").exists()
    assert (state / "skills" / "regex" / "SKILL.md").exists()


def test_what_cannot_be_is_one_sentence(tmp_path: Path):
    add(tmp_path, "twice", "--agent", "a")
    add(tmp_path, "twice", "--agent", "b")
    for arguments, words in (
        (("show", "nobody"), "skills list"),
        (("show", "twice"), "--agent"),
        (("export",), "--to"),
        (("import", str(tmp_path / "nowhere")), "neither a folder nor a zip"),
        (("add", "--name", "../x", "--description", "d", "--body", "b"), "must be 1-64"),
        (("add", "--name", "x", "--description", "d", "--body", "b", "--agent", "../up"), "agent id"),
        (("add", "--body", "b"), "--name"),
        (("log", "--agent", ".."), "agent id"),
    ):
        done = metaclaw(tmp_path, "skills", *arguments)
        assert done.returncode != 0, arguments
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
