"""Skills found by what they mean, with the words always beside it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from aiohttp import web

from metaclaw.config import EmbeddingSettings
from metaclaw.retrieval.configured import open_embedder
from metaclaw.skills.library import AgentSkills
from metaclaw.skills.meaning import SkillMeanings
from metaclaw.skills.ranking import SkillRanking
from metaclaw.skills.skill import Skill
from metaclaw.upstreams.session import new_session
from tests.fakes.embedding_api import EmbeddingApi, embedding_api


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio

ABOUT = {
    "git-history": "Undo a commit in a repository",
    "mail-replies": "Answer an email politely",
    "paying-bills": "Check an invoice before payment",
    "docker-debugging": "Find out why a container stops",
    "good-translations": "Translate into another language",
    "honest-charts": "Plot data as a chart",
    "calm-meetings": "Prepare a meeting in the calendar",
    "safe-passwords": "Where a password or secret is kept",
    "family-dinners": "Choose a recipe and cook it",
}


def view(**changes: str) -> AgentSkills:
    skills = [Skill(name=name, description=text, body="Do it.") for name, text in (ABOUT | changes).items()]
    return AgentSkills(by_name={skill.name: skill for skill in skills}, ranking=SkillRanking(skills))


@pytest.fixture
async def api() -> AsyncGenerator[EmbeddingApi]:
    async with embedding_api() as running:
        yield running


@pytest.fixture
async def meanings(api: EmbeddingApi, tmp_path: Path) -> AsyncGenerator[SkillMeanings]:
    async with new_session() as session:
        made = meanings_of(api, session, tmp_path)
        yield made
        await made.close()


def meanings_of(api: EmbeddingApi, session, folder: Path) -> SkillMeanings:
    settings = EmbeddingSettings.model_validate({"url": api.url, "model": "tiny", "timeout_s": 30})
    embedder = open_embedder(settings, session)
    assert embedder is not None
    return SkillMeanings(embedder, folder / "cache", min_likeness=0.3)


async def names(meanings: SkillMeanings, text: str, skills: AgentSkills) -> list[str]:
    return [ranked.skill.name for ranked in await meanings.ranked(text, skills)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Diese Rechnung ist zu hoch", ["paying-bills"]),
        ("这个账单不对", ["paying-bills"]),
        ("コンテナが止まる", ["docker-debugging"]),
        ("answer this email politely", ["mail-replies"]),
        ("Wie geht es dir heute?", []),
        ("", []),
    ],
)
async def test_a_skill_is_found_in_another_language_and_nothing_rather_than_a_poor_one(
    meanings: SkillMeanings, text: str, expected: list[str]
):
    skills = view()
    assert await meanings.prepare(skills)
    assert await names(meanings, text, skills) == expected


async def test_what_words_and_meaning_agree_on_is_first(meanings: SkillMeanings):
    skills = view()
    await meanings.prepare(skills)
    found = await meanings.ranked("undo the commit in my repository, then send an email", skills)
    assert [ranked.skill.name for ranked in found] == ["git-history", "mail-replies"]
    assert found[0].score > found[1].score


async def test_no_turn_waits_for_the_vectors_of_skills(meanings: SkillMeanings, api: EmbeddingApi):
    skills = view()
    assert await names(meanings, "answer this email politely", skills) == ["mail-replies"]
    assert api.asked == [], "the first turn goes by words and only begins the rest"
    assert await meanings.prepare(skills)
    assert await names(meanings, "Brief", skills) == ["mail-replies"]


async def test_vectors_are_kept_by_content_and_only_what_changed_is_computed_again(api: EmbeddingApi, tmp_path: Path):
    async with new_session() as session:
        first = meanings_of(api, session, tmp_path)
        assert await first.prepare(view())
        assert len(api.asked.pop()["input"]) == len(ABOUT)
        again = meanings_of(api, session, tmp_path)
        assert await again.prepare(view())
        assert api.asked == []
        skills = view(**{"family-dinners": "Write an invoice"})
        assert await again.prepare(skills)
        assert api.asked.pop()["input"] == ["family dinners: Write an invoice"]
        assert set(await names(again, "Rechnung", skills)) == {"paying-bills", "family-dinners"}
        api.asked.clear()
        assert await meanings_of(api, session, tmp_path).prepare(view())
        assert api.asked == [], "what other agents still use stays in the file"


async def test_a_damaged_file_of_vectors_is_computed_again(api: EmbeddingApi, tmp_path: Path, caplog):
    async with new_session() as session:
        assert await meanings_of(api, session, tmp_path).prepare(view())
        [file] = (tmp_path / "cache").iterdir()
        file.write_bytes(file.read_bytes()[:50])
        api.asked.clear()
        assert await meanings_of(api, session, tmp_path).prepare(view())
        assert len(api.asked) == 1
        assert "computed again" in caplog.text


async def test_an_endpoint_that_is_down_leaves_the_words(meanings: SkillMeanings, api: EmbeddingApi, caplog):
    skills = view()
    assert await meanings.prepare(skills)
    api.answers.append(lambda body: web.json_response({"error": {"message": "out of memory"}}, status=500))
    for _ in range(3):
        assert await names(meanings, "answer this email politely", skills) == ["mail-replies"]
    assert len(api.asked) == 2, "one for the skills, one that failed, then it is left alone"
    assert caplog.text.count("by words alone") == 1


async def test_skills_whose_vectors_failed_are_tried_again_when_the_endpoint_is_not_left_alone(
    api: EmbeddingApi, tmp_path: Path
):
    async with new_session() as session:
        settings = EmbeddingSettings.model_validate({"url": api.url, "model": "tiny", "timeout_s": 30})
        embedder = open_embedder(settings, session)
        assert embedder is not None
        now = [0.0]
        embedder.clock = lambda: now[0]
        meanings = SkillMeanings(embedder, tmp_path, min_likeness=0.3)
        api.answers.append(lambda body: web.json_response({}, status=503))
        skills = view()
        assert not await meanings.prepare(skills)
        assert not await meanings.prepare(skills)
        assert len(api.asked) == 1
        now[0] = 1000.0
        assert await meanings.prepare(skills)
