"""The skills folder: what is read, what is skipped, what fits."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.errors import SkillError
from metaclaw.skills import library
from metaclaw.skills.library import SkillLibrary
from metaclaw.skills.ranking import SkillRanking
from metaclaw.skills.retired import parse_retired, set_retired
from metaclaw.skills.skill import Skill, is_skill_name, parse_skill, read_skill, render_skill


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def write(root: Path, path: str, description: str = "Writes things", body: str = "Do it.") -> Path:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    text = f"---\nname: {folder.name}\ndescription: {description}\n---\n\n{body}\n"
    (folder / "SKILL.md").write_text(text, encoding="utf-8")
    return folder


def skill(name: str, description: str, body: str = "Do it.") -> Skill:
    return Skill(name=name, description=description, body=body)


class FakeClock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_skill_of_the_standard_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "pdf-forms"
    folder.mkdir()
    (folder / "SKILL.md").write_text(
        "---\nname: pdf-forms\ndescription: >\n  Fill in\n  PDF forms.\nlicense: MIT\nmetadata:\n  version: '1'\n"
        "---\n# Steps\n\n---\n1. Open it.\n"
    )
    assert read_skill(folder, strict=True) == Skill(
        name="pdf-forms",
        description="Fill in PDF forms.",
        body="# Steps\n\n---\n1. Open it.",
        license="MIT",
        metadata={"version": "1"},
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ":1: a skill begins with"),
        ("# Title\n", ":1: a skill begins with"),
        ("---\nname: x\n", ":1: the front matter is not closed"),
        ("---\nname: x\ndescription: [a\n---\nbody", ":4: not valid YAML|:3: not valid YAML"),
        ("---\n- a\n---\nbody", ":2: the front matter must hold"),
        ("---\ndescription: d\nname: ../../etc\n---\nbody", ":3: name '../../etc' must be"),
        ("---\ndescription: d\nname: other\n---\nbody", ":3: name 'other' differs from its folder 'x'"),
        ("---\nname: x\ndescription: ''\n---\nbody", ":3: description must be"),
        ("---\nname: x\n---\nbody", ":1: description must be"),
        ("---\nname: x\ndescription: d\n---\n  \n", ":4: nothing follows"),
        ("---\nname: x\nname: y\ndescription: d\n---\nbody", ": not valid YAML"),
        ("---\nname: !!python/object:os.system x\ndescription: d\n---\nbody", ": not valid YAML"),
    ],
)
def test_a_malformed_skill_names_the_file_and_the_line(text: str, says: str) -> None:
    path = Path("skills/x/SKILL.md")
    with pytest.raises(SkillError) as caught:
        parse_skill(text, path)
    assert str(caught.value).startswith("skills/x/SKILL.md:")
    assert any(part in str(caught.value) for part in says.split("|"))


@given(st.text(max_size=70))
def test_a_skill_name_is_never_a_path(name: str) -> None:
    """PITFALLS S2: a model-written name was used as a path."""
    if is_skill_name(name):
        assert (Path("skills") / name).parts == ("skills", name)
        assert name.isascii()


@given(st.text(max_size=300))
def test_no_text_is_read_as_a_skill_by_accident(text: str) -> None:
    with pytest.raises(SkillError):
        parse_skill(text, Path("x/SKILL.md"))


@pytest.mark.anyio
async def test_an_agents_own_skill_stands_before_a_shared_one(tmp_path: Path) -> None:
    """PITFALLS B8: shared skills went stale in agents' folders, root skills were invisible to agents."""
    write(tmp_path, "_shared/notes", "Shared notes")
    write(tmp_path, "flat", "Flat and shared")
    write(tmp_path, "ops/notes", "Notes of ops")
    write(tmp_path, "ops/only-ops")
    write(tmp_path, ".hidden/secret")
    library = SkillLibrary(tmp_path)
    ops, main = (await library.visible("ops")).by_name, (await library.visible("main")).by_name
    assert {name: one.description for name, one in main.items()} == {"notes": "Shared notes", "flat": "Flat and shared"}
    assert set(ops) == {"notes", "flat", "only-ops"}
    assert ops["notes"].description == "Notes of ops"


@pytest.mark.anyio
async def test_a_broken_skill_is_skipped_once_and_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "SKILL.md").write_text("no front matter")
    clock = FakeClock()
    library = SkillLibrary(tmp_path, clock=clock, patience_s=60)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert set((await library.visible("main")).by_name) == {"good"}
            clock.now += 2
    [record] = caplog.records
    assert "bad/SKILL.md:1" in record.getMessage()


@pytest.mark.anyio
async def test_front_matter_that_is_nested_without_end_is_skipped_alone(tmp_path: Path) -> None:
    write(tmp_path, "good")
    bad = write(tmp_path, "bad")
    (bad / "SKILL.md").write_text(f"---\nname: bad\ndescription: {'[' * 5000}\n---\nx\n")
    assert set((await SkillLibrary(tmp_path).visible("main")).by_name) == {"good"}


@pytest.mark.anyio
async def test_the_ranking_is_built_once_and_off_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    class Noted(SkillRanking):
        def __init__(self, skills: Sequence[Skill]) -> None:
            threads.append(threading.get_ident())
            super().__init__(skills)

    monkeypatch.setattr(library, "SkillRanking", Noted)
    write(tmp_path, "tidy")
    skills = SkillLibrary(tmp_path)
    seen = await asyncio.gather(*(skills.visible("main") for _ in range(5)))
    assert all(one is seen[0] for one in seen)
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


@pytest.mark.anyio
async def test_changes_are_seen_but_not_looked_for_at_every_request(tmp_path: Path) -> None:
    """PITFALLS P5: file reads on the event loop at every request."""
    clock = FakeClock()
    library = SkillLibrary(tmp_path / "skills", clock=clock, patience_s=60)
    assert (await library.visible("main")).by_name == {}
    folder = write(tmp_path, "skills/new")
    clock.now = 0.9
    assert (await library.visible("main")).by_name == {}
    clock.now = 1.1
    assert set((await library.visible("main")).by_name) == {"new"}
    write(tmp_path, "skills/new", body="Do it otherwise.")
    os.utime(folder / "SKILL.md", ns=(1, 1))
    clock.now = 3
    view = await library.visible("main")
    assert view.by_name["new"].body == "Do it otherwise."
    clock.now = 5
    assert await library.visible("main") is view
    (folder / "SKILL.md").unlink()
    clock.now = 7
    assert (await library.visible("main")).by_name == {}


LIBRARY = [
    skill("git-commit", "Write git commit messages in the imperative mood"),
    skill("weekly-report", "Draft the weekly status report for the team"),
    skill("kubernetes", "Debug pods and deployments", "Look at the events of the pods first."),
    skill("pdf-forms", "Fill in and sign PDF forms"),
    skill("tagesbericht", "日報を書く。短い文で"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("please write a commit message for these git changes", ["git-commit"]),
        ("Write the weekly report", ["weekly-report"]),
        ("why is kubernetes slow", ["kubernetes"]),
        ("sign these forms", ["pdf-forms"]),
        ("今日の日報を書いてください", ["tagesbericht"]),
        ("write a poem about autumn", []),
        ("what is the capital of France?", []),
        ("thanks", []),
        ("", []),
    ],
)
def test_a_skill_fits_or_none_is_given(text: str, expected: list[str]) -> None:
    """PITFALLS B5-2, B5-3: the same 21 skills at every turn, for a word like "test"; B4-7: none in a library of one."""
    assert [one.name for one in SkillRanking(LIBRARY).best(text)] == expected
    for name in expected:
        alone = [one for one in LIBRARY if one.name == name]
        assert SkillRanking(alone).best(text) == alone


def test_among_two_thousand_skills_the_few_that_fit_are_found() -> None:
    """PITFALLS B5-2, and run under faults: 2,000 skills, 126,000 characters injected into every prompt."""
    many = [skill(f"skill-{n}", f"Handles topic{n} and subject{n}", f"Talk of topic{n}.") for n in range(2000)]
    assert [one.name for one in SkillRanking(many).best("about topic77 and subject77 please")] == ["skill-77"]


def test_of_very_many_that_share_some_words_with_a_long_text_the_one_that_shares_the_most_is_first() -> None:
    many = [skill(f"skill-{n}", "Handles common matters of every kind") for n in range(300)]
    best = skill("zebra-matters", "Handles common matters of every kind for zebras and giraffes")
    text = "common matters of every kind, which somebody handles for zebras and giraffes " + "and much else " * 50
    found = SkillRanking([*many, best]).ranked(text)
    assert [ranked.skill for ranked in found] == [best]
    assert SkillRanking([best, *many[::-1]]).ranked(text) == found


@given(st.lists(st.sampled_from(LIBRARY), unique_by=lambda one: one.name), st.text(max_size=60))
def test_the_order_of_the_folder_does_not_matter(skills: list[Skill], text: str) -> None:
    assert SkillRanking(skills).best(text) == SkillRanking(skills[::-1]).best(text)


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ("licence: MIT", ":4: unknown field 'licence'; did you mean 'license'?"),
        ("wobble: 1", ":4: unknown field 'wobble'; the standard has name, description"),
        ("category: coding", ":4: category is not a field of the standard"),
        ("license: 3", ":4: license must be a text"),
        ("allowed-tools: [Read, Bash]", ":4: allowed-tools must be one text"),
        ("metadata: yes please", ":4: metadata must be a mapping"),
        ("metadata:\n  version: 1.0", ":4: metadata must map texts to texts"),
        (f"compatibility: {'x' * 501}", ":4: compatibility must be a text of 1-500"),
    ],
)
def test_what_the_standard_would_have_otherwise_is_an_error_for_us_and_a_note_for_users(field: str, says: str) -> None:
    text = f"---\nname: x\ndescription: d\n{field}\n---\nbody\n"
    with pytest.raises(SkillError) as caught:
        parse_skill(text, Path("x/SKILL.md"), strict=True)
    assert says in str(caught.value)
    brought = parse_skill(text, Path("x/SKILL.md"))
    assert brought.body == "body"
    if not field.startswith("category"):
        assert [says in note for note in brought.notes] == [True]


def test_fields_of_other_programs_are_not_worth_a_word() -> None:
    text = "---\nname: x\ndescription: d\nuser-invocable: true\nmetadata:\n  openclaw:\n    always: true\n---\nbody\n"
    brought = parse_skill(text, Path("x/SKILL.md"))
    assert brought.metadata == {"openclaw": {"always": True}}
    assert not [note for note in brought.notes if "user-invocable" in note]


@pytest.mark.parametrize(
    "head", ["description: &a d\nmetadata: {k: &b [1], l: *b}", "description: d\nmetadata: &a {k: *a}"]
)
def test_aliases_are_refused(head: str) -> None:
    """A few lines of them spell gigabytes."""
    with pytest.raises(SkillError, match="aliases"):
        parse_skill(f"---\nname: x\n{head}\n---\nbody\n", Path("x/SKILL.md"))


_WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs", "Cn", "Co"]), min_size=1, max_size=30)


@given(_WORDS, _WORDS, st.dictionaries(_WORDS, _WORDS, max_size=3), st.sampled_from(["general", "coding"]))
def test_what_is_written_is_read_again_as_it_was(
    description: str, body: str, metadata: dict[str, str], category: str
) -> None:
    metadata |= {} if category == "general" else {"category": category}
    one = Skill(name="x-1", description=description, body=body, metadata=metadata, category=category, license="MIT")
    if metadata.get("category", "general") == category:
        assert parse_skill(render_skill(one), Path("x-1/SKILL.md"), strict=True) == one


@pytest.mark.anyio
async def test_the_layers_stand_one_above_the_other(tmp_path: Path) -> None:
    for path in ("package/notes", "package/only-starter", "skills/_shared/notes", "skills/ops/notes"):
        write(tmp_path, path, f"from {path}")
    skills = SkillLibrary(tmp_path / "skills", starter=tmp_path / "package")
    ops, main = await skills.visible("ops"), await skills.visible("main")
    assert ops.owners == {"notes": "ops", "only-starter": "_starter"}
    assert main.owners == {"notes": "_shared", "only-starter": "_starter"}
    assert main.by_name["notes"].description == "from skills/_shared/notes"
    assert not (tmp_path / "skills" / "_starter").exists()


@pytest.mark.anyio
async def test_a_retired_skill_is_served_from_no_layer_until_it_is_put_back(tmp_path: Path) -> None:
    root, clock = tmp_path / "skills", FakeClock()
    for path in ("package/notes", "package/mail", "skills/_shared/notes", "skills/ops/notes"):
        write(tmp_path, path)
    skills = SkillLibrary(root, starter=tmp_path / "package", clock=clock, patience_s=60)
    assert set((await skills.visible("ops")).by_name) == {"notes", "mail"}
    assert set_retired(root, "ops", "notes", retired=True)
    assert set_retired(root, "*", "mail", retired=True)
    assert not set_retired(root, "*", "mail", retired=True)
    clock.now += 2
    assert (await skills.visible("ops")).by_name == {}
    assert set((await skills.visible("main")).by_name) == {"notes"}
    assert (root / ".retired").read_text().splitlines()[1:] == ["ops/notes", "*/mail"]
    assert set_retired(root, "ops", "notes", retired=False)
    clock.now += 2
    assert set((await skills.visible("ops")).by_name) == {"notes"}


def test_a_line_of_the_retired_file_that_cannot_be_read_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        retired = parse_retired("# why\nmain/good # note\n../etc/x\nmain\n*/all\n", Path("skills"))
    assert retired.pairs == {("main", "good"), ("*", "all")}
    assert [record.getMessage().split(":")[1] for record in caplog.records] == ["3", "4"]


@pytest.mark.anyio
async def test_agents_with_nothing_of_their_own_share_one_index(tmp_path: Path) -> None:
    write(tmp_path, "_shared/notes")
    write(tmp_path, "ops/own")
    skills = SkillLibrary(tmp_path)
    assert await skills.visible("one") is await skills.visible("two")
    assert await skills.visible("ops") is not await skills.visible("one")


@pytest.mark.anyio
async def test_who_has_seen_the_skills_does_not_wait_for_a_slow_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 skills that `git pull` brings take a second to read; a turn goes on with those of before."""
    clock, may_go_on = FakeClock(), threading.Event()

    class Slow(SkillRanking):
        def __init__(self, skills: Sequence[Skill]) -> None:
            assert len(skills) < 2 or may_go_on.wait(60)
            super().__init__(skills)

    monkeypatch.setattr(library, "SkillRanking", Slow)
    write(tmp_path, "first")
    skills = SkillLibrary(tmp_path, clock=clock, patience_s=0)
    before = await skills.visible("main")
    write(tmp_path, "second")
    clock.now += 2
    assert await skills.visible("main") is before
    may_go_on.set()
    await asyncio.gather(*skills._late)  # pyright: ignore[reportPrivateUsage]
    assert set((await skills.visible("main")).by_name) == {"first", "second"}


@pytest.mark.anyio
async def test_while_skills_are_asked_for_they_are_looked_at_beforehand_and_nobody_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asked, rounds = FakeClock(), asyncio.Queue[float](), asyncio.Queue[None]()

    async def pause(seconds: float) -> None:
        asked.put_nowait(seconds)
        await rounds.get()

    async def one_round() -> float:
        clock.now += 0.8
        rounds.put_nowait(None)
        return await asked.get()

    write(tmp_path, "first")
    skills = SkillLibrary(tmp_path, clock=clock, patience_s=60)
    keeping = asyncio.create_task(skills.keep_fresh(pause))
    assert await asked.get() < 1  # what was looked at is not old before it is looked at again
    scan, scans = skills.scan, list[float]()
    monkeypatch.setattr(skills, "scan", lambda: (scans.append(clock.now), scan()))
    await one_round()
    assert scans == []  # nobody has asked yet
    await skills.visible("main")
    for name in ("second", "third"):
        write(tmp_path, name)
        await one_round()
        looked = len(scans)
        assert name in (await skills.visible("main")).by_name
        assert len(scans) == looked  # the turn itself looked at nothing
    clock.now += 3600
    looked = len(scans)
    await one_round()
    assert len(scans) == looked  # nobody has asked for long
    monkeypatch.setattr(skills, "scan", lambda: (setattr(clock, "now", clock.now + 0.01), scan()))
    await skills.visible("main")
    next_in_s = await one_round()
    assert 1 < next_in_s < 5  # where it takes long, it is done less often
    write(tmp_path, "fourth")
    clock.now += next_in_s
    assert "fourth" not in (await skills.visible("main")).by_name
    clock.now += next_in_s
    assert "fourth" in (await skills.visible("main")).by_name  # it is never trusted for longer than that
    keeping.cancel()


@pytest.mark.anyio
async def test_of_many_skills_only_the_changed_one_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def noted(folder: Path) -> Skill:
        read.append(folder.name)
        return read_skill(folder)

    monkeypatch.setattr(library, "read_skill", noted)
    clock = FakeClock()
    for number in range(200):
        write(tmp_path, f"_shared/skill-{number}")
    skills = SkillLibrary(tmp_path, clock=clock, patience_s=60)
    before = await skills.visible("main")
    assert len(read) == 200
    read.clear()
    folder = write(tmp_path, "_shared/skill-7", description="Another")
    os.utime(folder / "SKILL.md", ns=(1, 1))
    clock.now += 2
    after = await skills.visible("main")
    assert read == ["skill-7"]
    assert after.by_name["skill-7"].description == "Another"
    assert all(after.by_name[name] is one for name, one in before.by_name.items() if name != "skill-7")
