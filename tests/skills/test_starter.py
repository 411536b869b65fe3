"""The skills that come with the package: each is sound, small, found when it is wanted and silent when it is not."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from metaclaw.chat.token_estimate import estimate_tokens
from metaclaw.skills.layout import STARTER_FOLDER, starter_folders
from metaclaw.skills.ranking import SkillRanking
from metaclaw.skills.skill import Skill, read_skill

MAX_TOKENS = 550  # estimated; two and their frame fit in the default budget of 1200
NUM_RECALLED = 2  # the default of skills.top_k
CATEGORIES = {
    "agentic", "automation", "coding", "common_mistakes", "communication", "data_analysis", "productivity", "research",
    "security",
}  # fmt: skip

REQUESTS = {
    "arithmetic-by-code": (
        "What would the monthly payment be on a 250,000 loan at 4 percent interest?",
        "calculate the totals with and without taxes, 19 percent, for these numbers",
    ),
    "ask-when-ambiguous": (
        "if my request is ambiguous, should you proceed or ask a clarifying question?",
        "The ticket is vague and underspecified, decide how to proceed",
    ),
    "backup-before-editing": (
        "make a backup of the configuration files and then change the port",
        "search and replace the old domain in bulk in all documents with sed",
    ),
    "charts-that-answer": (
        "Plot revenue per month as a bar chart with matplotlib",
        "which chart would visualise this data best, a scatter or a line graph?",
    ),
    "compare-groups-honestly": (
        "Is the difference in conversion rates of our A/B test significant?",
        "compare the two groups statistically and give me confidence intervals",
    ),
    "compare-options-decide": (
        "Which of these laptops should I buy? Give me the pros and cons",
        "compare the options Postgres and MongoDB for our product and recommend one",
    ),
    "cron-jobs-that-run": (
        "my cron job did not run last night, why?",
        "put the backup script into crontab so that the job runs every night",
    ),
    "csv-first-look": (
        "Clean this CSV file, there are duplicates and missing values",
        "analyse the dataset in sales.xlsx, it is an Excel file with odd columns",
    ),
    "debug-from-evidence": (
        "I get this traceback, find the bug: KeyError: 'user'",
        "the app throws an exception at start, can you find the cause of the crash?",
    ),
    "dependency-upgrades": (
        "Upgrade our npm packages to the latest major versions",
        "upgrade the pydantic dependency to version 2",
    ),
    "docker-troubleshooting": (
        "the docker container exits immediately after start",
        "docker build fails with no space, the disk is full",
    ),
    "edit-for-clarity": (
        "Proofread this text and fix the grammar please",
        "make the wording of this paragraph clearer and shorter",
    ),
    "email-drafting": (
        "Draft an email to my landlord about the heating",
        "write a polite reply to this email, I have to refuse the request",
    ),
    "fact-check-claims": (
        "Is it true that we only use ten percent of our brain? fact check that claim",
        "verify this quote, who said it and is the statistic true?",
    ),
    "organise-files": (
        "organise my downloads folder, rename the files sensibly",
        "sort the photos into folders by year",
    ),
    "git-commit-messages": (
        "commit the staged changes with a good message",
        "write the git commit message for this diff",
    ),
    "git-merge-conflicts": (
        "there are conflicts after git merge main, resolve them",
        "the rebase stopped with conflicts, help me resolve it",
    ),
    "git-undo-safely": (
        "I did git reset --hard and lost my commits, get them back",
        "undo the last commit but keep the changes",
    ),
    "http-api-clients": (
        "call the GitHub REST API and handle pagination",
        "our client gets 429 from the API, add retries with timeouts",
    ),
    "inbox-triage": (
        "go through my inbox and tell me which mail needs a reply",
        "triage my unread email and archive the newsletters",
    ),
    "instructions-inside-content": (
        "The web page contains hidden instructions for AI assistants, what now?",
        "how do you treat prompt injection in untrusted documents?",
    ),
    "iso-dates-and-deadlines": (
        "what date is 90 days from now, and which weekday? calculate it",
        "how many days until the deadlines in this list? write the dates in ISO",
    ),
    "long-tasks-keep-notes": (
        "This is a long task with 60 items, work through all steps",
        "resume the long task that you began yesterday, keep notes of each step",
    ),
    "meeting-notes-actions": (
        "turn this meeting transcript into minutes",
        "extract decisions and action items from my meeting notes",
    ),
    "phishing": (
        "is this email from my bank a scam or phishing?",
        "I got a text message with a link about a parcel, is that a scam?",
    ),
    "plan-project-steps": (
        "plan the project: milestones, tasks and deadlines until March",
        "break down the goal of launching the shop into tasks with estimates of effort",
    ),
    "profile-before-optimizing": (
        "this script is slow, make the code faster",
        "find the performance bottleneck, memory grows all the time",
    ),
    "python-environments": (
        "pip install fails, ModuleNotFoundError: No module named yaml in my venv",
        "python import error although the package is installed with pip",
    ),
    "refactor-in-small-steps": (
        "refactor this module, the class does too much",
        "extract these functions into a module of their own and simplify the code",
    ),
    "regex": (
        "write a regex that matches German licence plates",
        "regular expression for extracting the order number from a text",
    ),
    "review-code-changes": (
        "review this pull request",
        "give me feedback on the code in this patch",
    ),
    "schedule-across-timezones": (
        "schedule a meeting with Anna in New York and Raj in Delhi next week",
        "find a slot for an appointment across our calendars",
    ),
    "scrape-web-pages": (
        "scrape the product listings from this website",
        "extract the data of all tables on these web pages",
    ),
    "secrets-stay-secret": (
        "where do I put the API keys and passwords of the service?",
        "I committed the .env with credentials by accident, the token is leaked",
    ),
    "shell-deletes-safely": (
        "delete all files older than 30 days below /var/backup with find",
        "free disk space, clean up old files with rm",
    ),
    "shell-scripts-robust": (
        "write a bash script that uploads the reports",
        "my shell script needs better error handling and cleanup",
    ),
    "spreadsheet-formulas": (
        "my VLOOKUP in Excel returns #N/A",
        "which formula in Google Sheets sums by month? I thought of SUMIFS",
    ),
    "sql-changes-safely": (
        "run an UPDATE on the production database to fix the rows with a wrong country",
        "write a migration that adds a column to the users schema in production",
    ),
    "sql-queries": (
        "write an SQL query that joins orders and customers",
        "a query for the latest order per customer with a window function",
    ),
    "summarize": (
        "summarize this article in five key points",
        "give me a summary of the attached report, it is a long document",
    ),
    "tool-errors-recover": (
        "the tool call failed with permission denied, what next?",
        "the command timed out and returned an error",
    ),
    "translate": (
        "translate this document into Spanish",
        "please translate the user interface strings to French",
    ),
    "unit-tests": (
        "write unit tests for the parser",
        "add a regression test for this bug fix",
    ),
    "verify-before-claiming-done": (
        "check that the fix really works before you say that you are done",
        "is the work finished? verify the result and confirm it",
    ),
    "web-research-with-sources": (
        "research heat pumps on the web and give me the sources",
        "do some research on this topic and report with citations and links",
    ),
    "weekly-status-report": (
        "write my weekly status report",
        "draft a progress update for the client, what we did this week",
    ),
}

EVERYDAY = (
    "hi", "thanks, that was great!", "good morning, how are you?", "tell me a joke", "the capital of Australia?",
    "recommend a film for tonight, something funny", "how long do I boil an egg?", "write a poem about autumn leaves",
    "what should I cook with leeks and potatoes?", "who won the world cup in 1998?", "play some jazz",
    "why is the sky blue?", "my back hurts after running, what can I do?", "turn off the lights in the kitchen",
    "what is the weather in Lisbon tomorrow?", "suggest a name for our new cat", "how tall is the Eiffel tower?",
    "I feel a bit sad today", "explain photosynthesis to a child", "what does 'serendipity' mean?",
    "is it safe to eat mushrooms raw?", "give me three ideas for a birthday present for my sister",
    "how do I get red wine out of a shirt?", "tell me about the French revolution", "sing happy birthday",
    "which plants like shade?", "how far is the moon?", "remind me to call mum at six", "where did we go last summer?",
    "make a shopping list: milk, bread, apples", "how do I tie a bow tie?", "what is a good workout for beginners?",
    "I only wanted to say hello", "can dogs eat chocolate?", "what's your favourite colour?",
    "set a timer for ten minutes", "how do vaccines work?", "teach me to play chess", "what time is it in Tokyo?",
    "book a table for two at the Italian place", "yes, do that", "go on", "今天天气怎么样？", "Erzähl mir einen Witz",
    "¿Qué puedo cocinar esta noche?", "no, the other one", "that looks wrong, try again", "what did I say about Paris?",
)  # fmt: skip
MAX_FALSE_RECALLS = 1  # of these messages


def starters() -> list[Skill]:
    return [read_skill(folder, strict=True) for folder, _, _ in starter_folders()]


def test_about_forty_are_there_and_every_folder_is_one():
    skills = starters()
    assert len(skills) >= 40
    assert {one.name for one in skills} == {folder.name for folder in STARTER_FOLDER.iterdir()} == set(REQUESTS)


@pytest.mark.parametrize("skill", starters(), ids=lambda one: one.name)
def test_a_starter_skill_is_short_and_has_a_category(skill: Skill):
    assert estimate_tokens(f"## {skill.name}: {skill.description}\n{skill.body}\n") <= MAX_TOKENS
    assert 100 <= len(skill.body.split()) <= 250
    assert skill.category in CATEGORIES
    assert len(skill.description) <= 160, "OpenClaw's advice: one line"
    assert not set("<>") & set(skill.description), "OpenClaw refuses these"


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_a_starter_skill_is_found_by_requests_for_it(name: str):
    ranking = SkillRanking(starters())
    for request in REQUESTS[name]:
        found = [one.name for one in ranking.best(request)][:NUM_RECALLED]
        assert name in found, request


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("Docker is broken again", "docker-troubleshooting"),
        ("Can you make me a chart?", "charts-that-answer"),
        ("My inbox is a mess.", "inbox-triage"),
    ],
)
def test_one_word_that_only_one_skill_is_about_is_enough(message: str, name: str):
    skills = starters()
    assert [one.name for one in SkillRanking(skills).best(message)] == [name]
    few = [one for one in skills if one.name == name]
    assert SkillRanking(few).best(message) == [], "a few skills do not tell how rare a word is"


def test_a_word_in_passing_and_one_that_others_have_too_are_not_enough():
    ranking = SkillRanking(starters())
    assert ranking.best("We sat in the harbour, a docker sang, gulls cried, and my sister painted her boat green") == []
    assert ranking.best("Look at this script") == []


def test_a_wheel_holds_every_starter_skill(tmp_path: Path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=Path(__file__).parents[2], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"metaclaw/skills/starter/{name}/SKILL.md" for name in REQUESTS} <= names


def test_everyday_messages_recall_almost_nothing():
    ranking = SkillRanking(starters())
    recalled = {message: [one.name for one in ranking.best(message)] for message in EVERYDAY}
    wrong = {message: names for message, names in recalled.items() if names}
    assert len(EVERYDAY) >= 40
    assert len(wrong) <= MAX_FALSE_RECALLS, wrong
