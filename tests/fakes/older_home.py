"""A home as the reference system and its fork lay it out: their files, their schema 6, their way of writing both."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

CONFIG = """\
agents:
  Assistant: {mode: skills_only}
  research-agent:
    lora_output: ~/.metaclaw/lora/research-agent/
    mode: skills_only
    skills_dir: /home/somebody/.metaclaw/research-skills
claw_type: copaw
llm: {api_base: https://api.moonshot.cn/v1, api_key: sk-of-theirs-123456, auth_method: api_key, model_id: kimi-k2.5,
      provider: kimi}
max_context_tokens: 50000
memory: {auto_extract: true, dir: /home/somebody/.metaclaw/memory, enabled: true, max_injected_units: 9, scope: home}
mode: skills_only
proxy: {host: 0.0.0.0, port: 30000}
rl: {batch_size: 4, lora_rank: 16, prm_model: gpt-5.2, prm_url: 'https://api.openai.com/v1', remote_model_path: /m}
scheduler:
  calendar: {enabled: false, token_path: /home/somebody/.metaclaw/calendar_token.json}
  sleep_start: '22:00'
skills: {auto_evolve: true, dir: /home/somebody/.metaclaw/skills, retrieval_mode: template, top_k: 6}
wechat: {enabled: false}
"""

_SCHEMA = """
CREATE TABLE schema_version (version INTEGER NOT NULL, applied_at TEXT NOT NULL);
CREATE TABLE memories (
    memory_id TEXT PRIMARY KEY, scope_id TEXT NOT NULL, memory_type TEXT NOT NULL, content TEXT NOT NULL,
    summary TEXT DEFAULT '', source_session_id TEXT DEFAULT '', source_turn_start INTEGER DEFAULT 0,
    source_turn_end INTEGER DEFAULT 0, entities_json TEXT DEFAULT '[]', topics_json TEXT DEFAULT '[]',
    importance REAL DEFAULT 0.5, confidence REAL DEFAULT 0.7, access_count INTEGER DEFAULT 0,
    reinforcement_score REAL DEFAULT 0.0, status TEXT DEFAULT 'active', supersedes_json TEXT DEFAULT '[]',
    superseded_by TEXT DEFAULT '', embedding_json TEXT DEFAULT '[]', created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL, last_accessed_at TEXT DEFAULT '', expires_at TEXT DEFAULT '', tags_json TEXT DEFAULT '[]'
);
CREATE TABLE memory_events (event_id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT NOT NULL,
    event_type TEXT NOT NULL, memory_id TEXT NOT NULL, scope_id TEXT DEFAULT '', detail TEXT DEFAULT '');
CREATE TABLE memory_links (source_id TEXT NOT NULL, target_id TEXT NOT NULL, link_type TEXT NOT NULL DEFAULT 'related',
    created_at TEXT NOT NULL, PRIMARY KEY (source_id, target_id, link_type));
CREATE TABLE memory_annotations (annotation_id INTEGER PRIMARY KEY AUTOINCREMENT, memory_id TEXT NOT NULL,
    author TEXT NOT NULL DEFAULT '', content TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE VIRTUAL TABLE memories_fts USING fts5(memory_id, content, summary);
INSERT INTO schema_version VALUES (6, '2026-03-01T00:00:00+00:00');
"""

EARLY, LATE = "2026-03-01T08:00:00+00:00", "2026-04-02T09:30:00+00:00"

# id, scope, type, content, status, superseded by, created, expires
MEMORIES = (
    ("a1", "home", "preference", "User preference: tabs over spaces.", "active", "", EARLY, ""),
    ("a2", "home", "semantic", "The office is in Vienna.", "active", "", LATE, "2199-01-01T00:00:00+00:00"),
    ("a3", "home", "semantic", "The office is in Graz.", "superseded", "a2", EARLY, ""),
    ("a4", "home", "semantic", "The office is in Linz.", "superseded", "a3", EARLY, ""),
    ("a5", "home", "semantic", "The office is in Wels.", "superseded", "gone", EARLY, ""),
    ("b1", "user:alice|workspace:proj", "project_state", "The release is on Friday.", "active", "", EARLY, ""),
    ("b2", "team-a", "procedural_observation", "Workflow guidance: deploy by hand.", "active", "", EARLY, ""),
    ("b3", "home|session:s-7", "working_summary", "Topics: release, notes", "active", "", EARLY, ""),
    ("b4", "research-agent", "episodic", "The paper was submitted in March.", "active", "", EARLY, ""),
    ("c1", "home", "semantic", "The API key is sk-proj-aaaabbbbccccdddd1111.", "active", "", EARLY, ""),
    ("c2", "home", "episodic", "word " * 700, "active", "", EARLY, ""),
    ("c3", "home", "semantic", "The office is in Enns.", "archived", "", EARLY, ""),
    ("c4", "home", "semantic", "The office is closed today.", "active", "", EARLY, "2026-03-02T00:00:00+00:00"),
    ("c5", "home", "mood", "Cheerful.", "active", "", EARLY, ""),
    ("c6", "home", "preference", "User preference: tabs over spaces.", "active", "", LATE, ""),
)


def skill(name: str, description: str = "Use when it fits", body: str = "# Do\n1. Do it", category: str = "") -> str:
    """A ``SKILL.md`` as theirs is written: no quotes, whatever is in it."""
    extra = f"category: {category}\n" if category else ""
    return f"---\nname: {name}\ndescription: {description}\n{extra}---\n\n{body}\n"


SKILLS = {
    "debug-systematically": skill("debug-systematically", "Use when: a test fails", category="coding"),
    "dyn-001": skill("dyn-001"),
    "no-front-matter": "# Just text\n",
    "no-description": skill("no-description", ""),
    "Twice": skill("Dyn 001", "Use when it is the second"),
    "_shared/house-style": skill("house-style"),
    "research-agent/house-style": skill("house-style"),
    "research-agent/Cite Sources!": skill("Cite Sources!", category="research"),
    "Assistant/be-brief": skill("be-brief"),
    "bad agent/lost": skill("lost"),
}


def lay_out(home: Path) -> Path:
    """Make such a home. The newest memories are in the log beside the database, as after a kill."""
    home.mkdir(parents=True)
    (home / "config.yaml").write_text(CONFIG)
    for place, text in SKILLS.items():
        _put(home / "skills" / place / "SKILL.md", text)
    _put(home / "skills" / "dyn-001" / "scripts" / "run.sh", "#!/bin/sh\n")
    _put(home / "research-skills" / "read-papers" / "SKILL.md", skill("read-papers"))
    _put(home / "skills" / "evolution_history.jsonl", json.dumps({"skill_names": ["dyn-001"]}) + "\n{broken\n")
    _put(home / "auth-profiles.json", json.dumps({"profiles": [{"api_key": "sk-of-a-profile-99"}]}))
    write_memories(home / "memory" / "memory.db")
    return home


def write_memories(path: Path) -> None:
    path.parent.mkdir(parents=True)
    scratch = path.with_name("scratch.db")
    with closing(sqlite3.connect(scratch)) as connection:
        connection.executescript(f"PRAGMA journal_mode = WAL; {_SCHEMA}")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.executemany(
            "INSERT INTO memories (memory_id, scope_id, memory_type, content, status, superseded_by, created_at,"
            " expires_at, updated_at, source_session_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '2026-03-20T00:00:00', 's-1')",
            MEMORIES,
        )
        connection.execute("INSERT INTO memory_links VALUES ('a1', 'a2', 'related', '2026-03-01')")
        connection.commit()
        for end in ("", "-wal"):  # while it is open, so that the log is not written back
            shutil.copyfile(f"{scratch}{end}", f"{path}{end}")
    for left in path.parent.glob("scratch.db*"):
        left.unlink()


def fingerprint(home: Path) -> dict[str, str]:
    """Every file below ``home`` with its digest."""
    files = sorted(path for path in home.rglob("*") if path.is_file())
    return {path.relative_to(home).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
