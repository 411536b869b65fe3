"""Connecting and disconnecting on files as people have them: what was there comes back byte for byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from metaclaw.agents import commands as wiring_commands
from metaclaw.agents import diffs, wiring
from metaclaw.agents.documents import document
from metaclaw.agents.documents.formats import FORMATS
from metaclaw.agents.ledger import Ledger, Wiring
from metaclaw.agents.program import Connection, Machine
from metaclaw.agents.programs.registry import PROGRAMS, find_program
from metaclaw.agents.status import read_status
from metaclaw.agents.wiring import Change
from metaclaw.errors import WiringError
from tests.agents import configs

URL = "http://127.0.0.1:30000"
TOKEN = "mc-0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Case:
    """A program, its file, and an edit that its user makes meanwhile."""

    name: str
    path: str
    text: str
    theirs: tuple[str, str]


CASES = [
    Case("openclaw", ".openclaw/openclaw.json", configs.OPENCLAW, ("scope: 'agent' }", "scope: 'x', /* é */ }")),
    Case("claude-code", ".claude/settings.json", configs.CLAUDE_CODE, ('"vim", ', '"nano",\n ')),
    Case("opencode", ".config/opencode/opencode.jsonc", configs.OPENCODE, ('{"edit": "ask",', '{"edit": "no", // é\n')),
    Case("codex", ".codex/config.toml", configs.CODEX, ("network_access = false", "network_access=true # so")),
    Case("hermes", ".hermes/config.yaml", configs.HERMES, ("mode: manual", "mode:   smart # so")),
    Case("nanobot", ".nanobot/config.json", configs.NANOBOT, ('"maxTokens": 8192', '"maxTokens": 9000, "ü": 1')),
    Case("picoclaw", ".picoclaw/config.json", configs.PICOCLAW, ('"restrict_to_workspace": true', '"more": [ ]')),
    Case("zeroclaw", ".zeroclaw/config.toml", configs.ZEROCLAW, ("workspace_only = true", "workspace_only=false")),
    Case("ironclaw", ".ironclaw/.env", configs.IRONCLAW, ("SANDBOX_ENABLED=true", "SANDBOX_ENABLED = 'yes'")),
    Case("nanoclaw", "nanoclaw/.env", configs.NANOCLAW, ("Ändi", "Ändi II")),
    Case("aider", ".aider.conf.yml", configs.AIDER, ("auto-commits: false", "auto-commits:   true")),
    Case("qwenpaw", ".qwenpaw.secret/providers/active_model.json", configs.QWENPAW, ('"}', '", "since": 1}')),
]
each_program = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
LAYOUTS: dict[str, Callable[[str], bytes]] = {
    "plain": lambda text: text.encode(),
    "windows": lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode(),
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())


class Desk:
    """A user's machine, and what is done to it."""

    def __init__(self, root: Path) -> None:
        self.machine = Machine(home=root / "user", env={"PATH": str(root / "bin")})
        self.machine.home.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(root / "metaclaw")

    def path(self, case: Case) -> Path:
        return self.machine.home / case.path

    def lay(self, case: Case, data: bytes) -> Path:
        path = self.path(case)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        (self.machine.home / ".qwenpaw").mkdir(exist_ok=True)
        return path

    def connect(self, name: str, url: str = URL, agent: str | None = None) -> Change:
        change, wired = self.proposed(name, url, agent)
        wired()
        return change

    def proposed(self, name: str, url: str = URL, agent: str | None = None) -> tuple[Change, Callable[[], Wiring]]:
        program = find_program(name)
        connection = Connection(
            url=url, token=TOKEN, agent=agent, context_tokens=32_000, plugin=self.ledger.folder(name) / "plugin"
        )
        assert program.find(self.machine) is not None
        plan = program.plan(connection, self.machine)
        change = wiring.connecting(name, plan, self.ledger.read(name), self.ledger)
        return change, lambda: wiring.connect(change, connection, plan, 1.0, self.ledger)

    def disconnect(self, name: str) -> Change:
        record = self.ledger.read(name)
        assert record is not None
        change = wiring.disconnecting(record, self.ledger)
        wiring.disconnect(change, record, self.ledger)
        return change

    def endpoint(self, name: str) -> str | None:
        return find_program(name).endpoint(self.machine)

    def files(self) -> dict[Path, tuple[bytes, int]]:
        there = (path for path in self.machine.home.rglob("*") if path.is_file())
        return {path: (path.read_bytes(), path.stat().st_mode) for path in there}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_every_program_has_a_case():
    assert {case.name for case in CASES} == PROGRAMS.keys() - {"none", "nemoclaw"}  # those have no file


@each_layout
@each_program
def test_disconnecting_gives_back_every_byte(desk: Desk, case: Case, layout: Callable[[str], bytes]):
    """PITFALLS B6: uninstall blanked the user's model, left the provider, and there was no copy of anything."""
    path = desk.lay(case, layout(case.text))
    path.chmod(0o640)
    before = desk.files()
    assert desk.endpoint(case.name) in (None, "http://10.0.0.5/v1")
    desk.connect(case.name)
    assert (desk.endpoint(case.name) or "").startswith(URL)
    assert path.stat().st_mode & 0o777 == 0o640
    assert TOKEN in "".join(data.decode() for data, _ in desk.files().values())
    desk.disconnect(case.name)
    assert desk.files() == before
    assert desk.ledger.programs() == []


@each_layout
@each_program
def test_nothing_but_our_entries_changes(desk: Desk, case: Case, layout: Callable[[str], bytes]):
    """PITFALLS S4, and `claw_type: none`: the sandbox was switched off on start, asked for or not."""
    path = desk.lay(case, layout(case.text))
    (change,) = [file for file in desk.connect(case.name).files if file.path == path]
    assert change.wired is not None
    assert change.before is not None
    form, text = FORMATS[change.wired.form], path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode()
    for entry in reversed(change.wired.entries):
        if entry.before is None:
            text = document.remove(form, text, entry.where[: len(entry.where) - entry.made + 1])
        else:
            text = document.put_source(form, text, entry.where, entry.before, entry.was)
    left, was = form.read(text), form.read(change.before.removeprefix(b"\xef\xbb\xbf").decode())
    assert {key: left[key] for key in was} == was
    kept = [line for line in case.text.splitlines() if line.strip() and line not in path.read_text("utf-8-sig")]
    assert len(kept) <= 3, kept  # the lines that hold an entry of ours now


@each_layout
@each_program
def test_what_the_user_wrote_meanwhile_stays(desk: Desk, case: Case, layout: Callable[[str], bytes]):
    path = desk.lay(case, layout(case.text))
    desk.connect(case.name)
    old, new = (layout(part).removeprefix(b"\xef\xbb\xbf") for part in case.theirs)
    assert path.read_bytes().count(old) == 1
    path.write_bytes(path.read_bytes().replace(old, new))
    assert desk.disconnect(case.name).remarks == []
    assert path.read_bytes() == layout(case.text).replace(old, new)


@pytest.mark.parametrize(
    ("case", "text", "edit"),
    [
        (CASES[4], "model:\n  default: x\nproviders:   # none yet\nterminal: {}", ("terminal: {}", "terminal: {a: 1}")),
        (CASES[4], "providers: ~\nmodel: x\n# the end", ("# the end", "# the very end")),
        (CASES[4], "providers: {} # none\nmodel: x\n", ("# none", "# none at all")),
        (CASES[1], '{"env": null, "a": 1}', ('"a": 1', '"a": 2')),
        (CASES[9], "A=1", ("A=1", "A=2")),
        (CASES[3], 'model = "x"\r\n# mixed\n[a]\r\nb = 1\n', ("b = 1", "b = 2")),
    ],
    ids=range(6),
)
def test_the_layout_around_our_entries_is_as_it_was_when_the_file_was_edited_meanwhile(
    desk: Desk, case: Case, text: str, edit: tuple[str, str]
):
    path = desk.lay(case, text.encode())
    desk.connect(case.name)
    path.write_bytes(path.read_bytes().replace(edit[0].encode(), edit[1].encode()))
    desk.disconnect(case.name)
    assert path.read_bytes().decode() == text.replace(*edit)


@each_program
def test_connecting_again_keeps_what_was_there_first(desk: Desk, case: Case):
    path = desk.lay(case, case.text.encode())
    desk.connect(case.name)
    once = path.read_bytes()
    assert desk.proposed(case.name)[0].is_empty
    desk.connect(case.name, "http://127.0.0.1:4444")
    assert (desk.endpoint(case.name) or "").startswith("http://127.0.0.1:4444")
    assert path.read_bytes() == once.replace(b"30000", b"4444") or case.name == "qwenpaw"
    desk.disconnect(case.name)
    assert path.read_bytes() == case.text.encode()


@each_program
def test_a_file_that_was_not_there_goes_again(desk: Desk, case: Case):
    path = desk.lay(case, b"")
    path.unlink()
    if case.name == "aider":  # known by its file alone
        (desk.machine.home.parent / "bin").mkdir()
        (desk.machine.home.parent / "bin" / "aider").write_text("#!/bin/sh\n")
        (desk.machine.home.parent / "bin" / "aider").chmod(0o755)
    made = desk.connect(case.name).files[-1].path
    assert made.stat().st_mode & 0o777 == 0o600
    desk.disconnect(case.name)
    assert not made.exists()


def test_an_entry_that_the_user_changed_since_is_the_users(desk: Desk):
    path = desk.lay(CASES[0], configs.OPENCLAW.encode())
    desk.connect("openclaw")
    path.write_text(path.read_text().replace('"primary": "metaclaw/metaclaw"', '"primary": "openai/gpt-6"'))
    (remark,) = desk.disconnect("openclaw").remarks
    assert "agents.defaults.model.primary" in remark
    assert path.read_text() == configs.OPENCLAW.replace('primary": "anthropic/claude-opus', 'primary": "openai/gpt-6')


def test_a_link_is_followed_and_stays(desk: Desk, tmp_path: Path):
    case = CASES[1]
    real = tmp_path / "dotfiles.json"
    real.write_text(case.text)
    path = desk.path(case)
    path.parent.mkdir()
    path.symlink_to(real)
    desk.connect(case.name)
    assert path.is_symlink()
    assert TOKEN in real.read_text()
    desk.disconnect(case.name)
    assert (path.is_symlink(), real.read_text()) == (True, case.text)


def test_files_of_a_dotfile_manager_are_edited_where_they_are_and_their_owner_is_warned(desk: Desk, tmp_path: Path):
    """PITFALLS S6: a token of ours must not end in a repository unnoticed."""
    case, repository = CASES[2], tmp_path / "dotfiles"
    (repository / ".git").mkdir(parents=True)
    folder = repository / "opencode"
    folder.mkdir()
    (folder / "mine.jsonc").write_text(case.text)
    (desk.machine.home / ".config").mkdir()
    (desk.machine.home / ".config" / "opencode").symlink_to(folder)
    (folder / "opencode.jsonc").symlink_to("mine.jsonc")
    remarks = desk.connect("opencode").remarks
    assert [remark for remark in remarks if f"into the repository {repository}" in remark]
    assert TOKEN in (folder / "mine.jsonc").read_text()
    assert (folder / "opencode.jsonc").is_symlink()
    desk.disconnect("opencode")
    assert (folder / "mine.jsonc").read_text() == case.text
    assert sorted(path.name for path in folder.iterdir()) == ["mine.jsonc", "opencode.jsonc"]


def test_a_file_with_two_names_is_said_to_have_them(desk: Desk, tmp_path: Path):
    path = desk.lay(CASES[1], configs.CLAUDE_CODE.encode())
    (tmp_path / "other").hardlink_to(path)
    assert [remark for remark in desk.connect("claude-code").remarks if "another name" in remark]
    assert (tmp_path / "other").read_text() == configs.CLAUDE_CODE


def test_files_are_where_the_users_variables_say(desk: Desk):
    home = desk.machine.home
    named = {"OPENCLAW_CONFIG_PATH": "~/claw.json", "XDG_CONFIG_HOME": str(home / "xdg"), "CODEX_HOME": "x" * 300}
    desk.machine = replace(desk.machine, env={**desk.machine.env, **named})
    (home / "xdg" / "opencode").mkdir(parents=True)
    assert [file.path for file in desk.connect("opencode").files] == [home / "xdg" / "opencode" / "opencode.json"]
    assert [file.path for file in desk.connect("openclaw").files] == [home / "claw.json"]
    units = home / "xdg" / "systemd" / "user"
    units.mkdir(parents=True)
    (units / "gone-nanoclaw.service").symlink_to("nowhere")
    (units / "nanoclaw.service").write_text("[Service]\nWorkingDirectory=%h/claws\n")
    (home / "claws").mkdir()
    assert [file.path for file in desk.connect("nanoclaw").files] == [home / "claws" / ".env"]
    # A name that no folder can have, as a folder that nobody may look into, is no program, and no traceback.
    assert read_status(find_program("codex"), desk.machine, desk.ledger).state == "absent"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.chmod(0o444), "read-only"),
        (lambda path: path.write_text('{"env": '), "cannot be read: line 1"),
        (lambda path: path.write_text("[1, 2]"), "no settings by name"),
        (lambda path: path.write_text('{"env": "EDITOR=vim"}'), "an object or a list was expected"),
        (lambda path: path.write_bytes(b'{"a": "\xff"}'), "not UTF-8"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere.json")), "does not exist"),
        (lambda path: (path.unlink(), path.symlink_to(path.name)), "link"),
        (lambda path: (path.unlink(), path.mkdir()), "no file"),
    ],
)
def test_what_cannot_be_edited_is_said_and_left_alone(desk: Desk, spoil: Callable[[Path], object], says: str):
    path = desk.lay(CASES[1], configs.CLAUDE_CODE.encode())
    spoil(path)
    before = desk.files()
    with pytest.raises(WiringError, match=says) as raised:
        desk.connect("claude-code")
    assert str(path) in str(raised.value)
    assert desk.files() == before
    assert desk.ledger.programs() == []


def test_a_write_at_the_same_moment_is_not_lost(desk: Desk):
    path = desk.lay(CASES[1], configs.CLAUDE_CODE.encode())
    _, carry_out = desk.proposed("claude-code")
    path.write_text('{"env": {"NEW": "1"}}')
    with pytest.raises(WiringError, match="in this moment"):
        carry_out()
    assert path.read_text() == '{"env": {"NEW": "1"}}'
    assert desk.disconnect("claude-code").remarks == []  # recorded, but never written: there is nothing to take back
    assert path.read_text() == '{"env": {"NEW": "1"}}'


def test_a_kill_between_two_files_is_taken_back(desk: Desk):
    case = CASES[-1]
    path = desk.lay(case, case.text.encode())
    before = desk.files()
    _, carry_out = desk.proposed(case.name)
    path.chmod(0o400)
    path.write_text(case.text + " ")  # so that the second file is refused, as late as a kill may come
    with pytest.raises(WiringError):
        carry_out()
    assert desk.files().keys() != before.keys()
    path.write_text(case.text)
    path.chmod(before[path][1] & 0o777)
    desk.disconnect(case.name)
    assert desk.files() == before


def test_an_edited_file_is_disconnected_even_when_its_copy_is_lost(desk: Desk):
    case = CASES[1]
    path = desk.lay(case, case.text.encode())
    desk.connect(case.name)
    for copy in (desk.ledger.folder(case.name) / "before").iterdir():
        copy.unlink()
    path.write_text(path.read_text().replace(*case.theirs))
    desk.disconnect(case.name)
    assert path.read_text() == case.text.replace(*case.theirs)


def test_two_at_once_are_told_so(desk: Desk):
    another = Ledger(desk.ledger.folder("").parent)
    with desk.ledger.alone(), pytest.raises(WiringError, match="under way"), another.alone():
        pass


def test_what_is_kept_is_for_the_owner_alone(desk: Desk):
    """PITFALLS S6: secrets lay in plain text with default permissions."""
    desk.lay(CASES[0], configs.OPENCLAW.encode())
    desk.connect("openclaw")
    kept = [path for path in desk.ledger.folder("openclaw").rglob("*") if path.is_file()]
    assert len(kept) == 2
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


@each_program
def test_a_diff_shows_no_secret(desk: Desk, case: Case):
    desk.lay(case, case.text.encode())
    change, _ = desk.proposed(case.name)
    shown = "\n".join(diffs.shown(change, TOKEN))
    assert URL in shown or case.name == "qwenpaw"
    secrets = (TOKEN, "sk-theirs", "old-key", "sk-old", "their-own", "=theirs")
    assert not [secret for secret in secrets if secret in shown]


def test_openclaw_is_wired_by_what_its_file_says(desk: Desk):
    case = CASES[0]
    path = desk.lay(case, b'{"agents": {"defaults": {"model": "a/b"}}, "plugins": {"allow": ["x"], "enabled": false}}')
    remarks = desk.connect("openclaw", agent="ops").remarks
    assert [remark for remark in remarks if "plugins.allow" in remark and "your" in remark]
    data = FORMATS["json5"].read(path.read_text())
    assert data["agents"]["defaults"] == {"model": "metaclaw/metaclaw"}
    assert data["plugins"]["allow"] == ["x"]  # PITFALLS S9: it put itself on the list of trusted plugins
    # The token is the agent's, and the gateway refuses a header that says otherwise.
    assert data["plugins"]["entries"]["metaclaw"]["config"] == {"nameAgent": False}
    desk.lay(case, configs.OPENCLAW.encode())
    assert [remark for remark in desk.proposed("openclaw")[0].remarks if "'ops' has a model of its own" in remark]


def test_nemoclaw_is_wired_by_its_own_commands_and_no_secret_is_an_argument(desk: Desk, tmp_path: Path):
    log = tmp_path / "log"
    (tmp_path / "bin").mkdir()
    for name in ("openshell", "nemoclaw"):
        program = tmp_path / "bin" / name
        program.write_text(
            f'#!/bin/sh\necho "$@ key=$OPENAI_API_KEY" >> {log}\n'
            '[ "$2" = get ] && printf "Gateway inference:\\n  Provider: nvidia\\n  Model: nemotron\\n"\nexit 0\n'
        )
        program.chmod(0o755)
    machine = replace(desk.machine, env={"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"})
    connection = Connection(url=URL, token=TOKEN, agent="main", context_tokens=1)
    plan = find_program("nemoclaw").plan(connection, machine)
    for command in (*plan.commands, *plan.undo):
        wiring_commands.run(command, machine)
    asked, created, used, back, deleted = log.read_text().splitlines()
    assert asked.startswith("inference get")
    assert created.endswith(f"OPENAI_BASE_URL=http://host.openshell.internal:30000/v1 key={TOKEN}")
    assert used == "inference set --provider metaclaw --model metaclaw key="
    assert back == "inference set --provider nvidia --model nemotron key="
    assert deleted == "provider delete metaclaw key="
    assert not any(TOKEN in part for command in plan.commands for part in command.argv)


def test_status_says_whom_a_program_asks(desk: Desk):
    case, program = CASES[2], find_program("opencode")

    def state() -> tuple[str, str | None]:
        status = read_status(program, desk.machine, desk.ledger)
        return status.state, status.endpoint

    assert state() == ("absent", None)
    path = desk.lay(case, case.text.encode())
    assert state() == ("found", None)
    desk.connect("opencode", agent="main")
    assert state() == ("connected", f"{URL}/v1")
    path.write_text(path.read_text().replace("metaclaw/metaclaw", "ollama/qwen"))
    assert state() == ("changed", "http://localhost:11434/v1")
    path.write_text("{")
    assert state()[0] == "unreadable"


def test_a_name_that_is_unknown_is_answered_with_those_there_are():
    with pytest.raises(WiringError, match=r"'clawd'.*openclaw, claude-code"):
        find_program("clawd")
    assert find_program("CoPaw").name == "qwenpaw"
