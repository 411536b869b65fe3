"""Days through a real gateway, checks in a real sandbox; the model alone follows a script."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from metaclaw.bench.days import Dataset, read_dataset
from metaclaw.bench.playing import Player
from metaclaw.bench.report import summary_of
from metaclaw.bench.results import PlayedDay, Run, alone_in, begin_run, read_days
from metaclaw.bench.running import play_days
from metaclaw.bench.workplace import workplace
from metaclaw.errors import ConfigError
from metaclaw.journal.turns import TurnReader
from metaclaw.processes.confinement import Unconfined
from metaclaw.processes.sandbox import Sandbox
from metaclaw.rollout.gateway_client import GatewayClient
from tests.fakes.apprentice import Apprentice
from tests.fakes.llm import Answer, FakeLlm, fake_llm
from tests.gateway.running import TOKEN, RunningGateway, make_settings, running_gateway

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
DAYS = Path(__file__).resolve().parents[2] / "benchmarks" / "days"


@dataclass(frozen=True)
class World:
    gateway: RunningGateway
    llm: FakeLlm
    player: Player

    async def play(self, day: int, **changes: Any) -> PlayedDay:
        player = replace(self.player, **changes)
        return await player.play(player.dataset.days[day - 1], session=f"day-{day}")

    async def rewards(self) -> list[float]:
        """What the journal has of each exchange, in order."""
        exchanges = dict.fromkeys(turn.exchange for turn in await self.gateway.turns())
        return await asyncio.to_thread(_rewards, self.gateway.home, list(exchanges))


@asynccontextmanager
async def world(home: Path, sandbox: Sandbox, dataset: Dataset, script: Any) -> AsyncGenerator[World]:
    async with fake_llm() as llm, running_gateway(make_settings(home, llm_url=llm.url)) as gateway:
        llm.script = script
        model = GatewayClient(gateway.http, url=gateway.url, token=TOKEN, model="m")
        yield World(
            gateway,
            llm,
            Player(model=model, sandbox=sandbox, dataset=dataset, agent="bench", max_turns=8, is_frozen=False),
        )


def _rewards(home: Path, exchanges: list[str]) -> list[float]:
    with TurnReader.open(home / "turns.db") as reader:
        given = [row.score for exchange in exchanges for row in reader.feedback(exchange)]
    return [score for score in given if score is not None]


def told(llm: FakeLlm) -> list[str]:
    """What the user said, in order, each once."""
    return list(
        dict.fromkeys(one["messages"][-1]["content"] for one in llm.requests if one["messages"][-1]["role"] == "user")
    )


def dataset_of(
    folder: Path,
    *rounds: Json,
    scripts: dict[str, str] | None = None,
    files: dict[str, str] | None = None,
    beside: dict[str, str] | None = None,
) -> Dataset:
    """One day of ``rounds``; ``beside`` is what lies beside their questions."""
    index = {"workspace_src": "workspace", "eval_dir": "eval", "test": [{"id": "day01", "eval": "day01"}]}
    written = {"all_tests.json": json.dumps(index), "eval/day01/questions.json": json.dumps({"rounds": rounds})}
    written |= {f"eval/scripts/{name}": text for name, text in (scripts or {}).items()}
    written |= {f"eval/day01/{name}": text for name, text in (beside or {}).items()}
    written |= {f"workspace/{name}": text for name, text in (files or {}).items()}
    (folder / "workspace").mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return read_dataset(folder)


def work(command: str, **more: Any) -> Json:
    evaluation = {"command": command, **more.pop("eval", {})}
    return {"id": "r1", "type": "file_check", "question": "Do it.", "eval": evaluation, **more}


def doing(*commands: str) -> Any:
    """A model that runs one command a user's message, in order."""
    left = list(commands)

    def script(body: Json) -> Answer:
        if body["messages"][-1]["role"] == "tool" or not left:
            return Answer(text="done")
        function = {"name": "run_command", "arguments": json.dumps({"command": left.pop(0)})}
        call = {"id": "c", "type": "function", "function": function}
        return Answer(message={"role": "assistant", "content": None, "tool_calls": [call]}, finish_reason="tool_calls")

    return script


async def test_who_knows_the_user_does_everything_right_and_who_does_not_learns_within_the_day(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    """SPEC A14. The dataset of ours can be done, and nothing of it is right for whoever was never told."""
    dataset = read_dataset(DAYS)
    async with world(tmp_path, sandbox, dataset, Apprentice(knows_all=True)) as here:
        master = {f"day0{day}": await here.play(day) for day in range(1, 7)}
    wrong = [(name, one) for name, day in master.items() for one in day.rounds if one.score != 1.0 or one.is_idle]
    assert not wrong
    async with world(tmp_path / "other", sandbox, dataset, Apprentice()) as here:
        stranger = [[one.score for one in (await here.play(day)).rounds] for day in (1, 3, 5)]
        said = told(here.llm)
        turns = await here.gateway.turns()
        rewards = await here.rewards()
    assert stranger == [[0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], (
        "what was said counts in its session alone"
    )
    assert said[1].startswith("My notes begin with front matter"), "what was wrong is said before the next question"
    assert "The check says: day01/meeting.md: there is no front matter" in said[1]
    assert {(turn.agent, turn.session) for turn in turns} == {("bench", f"day-{day}") for day in (1, 3, 5)}
    assert rewards == [-1.0, 1.0, 1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0]


async def test_naming_every_option_and_doing_nothing_is_shown_for_what_it_scores(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    """PITFALLS B7: content-free answers scored 21.4 %, as much as a model's baseline, and nobody saw it."""
    dataset = read_dataset(DAYS)
    async with world(tmp_path, sandbox, dataset, Apprentice(is_idle=True)) as here:
        days = {f"day0{day}": await here.play(day, is_frozen=True) for day in range(1, 7)}
        said = told(here.llm)
    summary = summary_of(days)
    assert summary["completion"]["mean"] == 0.0, "no check passes without work"
    assert summary["accuracy"]["mean"] == pytest.approx(summary["by_choosing_all"])
    assert summary["passed_before_any_work"] == 0
    assert not any("front matter" in one for one in said), "a frozen run teaches nothing"
    turns = sum(one.turns for day in days.values() for one in day.rounds)
    assert turns == summary["rounds"] == 20


async def test_what_passes_before_any_work_counts_for_nothing(tmp_path: Path, sandbox: Sandbox) -> None:
    """PITFALLS B7: checks that counted files of earlier rounds passed with no work done."""
    rounds = [work("test -e a"), work("test -e a", id="r2"), work("test -e b", id="r3")]
    dataset = dataset_of(tmp_path / "d", *rounds)
    async with world(tmp_path / "home", sandbox, dataset, doing("touch a", "true", "true")) as here:
        played = await here.play(1)
        rewards = await here.rewards()
    assert [(one.score, one.is_idle) for one in played.rounds] == [(1.0, False), (1.0, True), (0.0, False)]
    assert summary_of({"day01": played})["completion"] == {"mean": 0.5, "interval": None, "rounds": 2}
    assert rewards == [1.0, -1.0], "no reward for what was there"


async def test_the_agent_never_sees_what_grades(tmp_path: Path, sandbox: Sandbox) -> None:
    """PITFALLS B7: checkers were copied into the workspace before the agent worked there."""
    dataset = dataset_of(
        tmp_path / "d",
        work("sh scripts/check.sh", eval={"expect_stdout": "SECRET"}),
        work("test ! -e left && cat ls.txt", id="r2", eval={"expect_stdout": "AGENTS.md"}),
        scripts={"check.sh": "echo SECRET; touch left"},
        files={"AGENTS.md": "You bake.", "day01/a.txt": "", "day02/b.txt": "of another day"},
    )
    look = f"find . > ls.txt; cat ls.txt; cat scripts/check.sh {dataset.scripts}/check.sh"
    async with world(
        tmp_path / "home", replace(sandbox, hidden=(tmp_path / "d",)), dataset, doing(look, "true")
    ) as here:
        played = await here.play(1)
        seen = json.dumps(here.llm.requests)
    assert [one.score for one in played.rounds] == [1.0, 1.0], "the script ran, and left nothing behind"
    assert "day01/a.txt" in seen
    assert "day02" not in seen
    assert "You bake." in here.llm.requests[0]["messages"][0]["content"]
    if not isinstance(sandbox.confinement, Unconfined):
        assert "SECRET" not in seen


async def test_a_check_that_cannot_say_is_no_score(tmp_path: Path, sandbox: Sandbox) -> None:
    rounds = [
        work("no-such-program"),
        work("sleep 60", id="r2", eval={"timeout": 0.3}),
        work("exit 3", id="r3", eval={"expect_exit": 3}),
        work("echo '7 files'", id="r4", eval={"expect_stdout": r"^\d+ files$", "expect_stdout_regex": True}),
    ]  # fmt: skip
    async with world(tmp_path / "home", sandbox, dataset_of(tmp_path / "d", *rounds), doing()) as here:
        played = await here.play(1)
    assert [one.score for one in played.rounds] == [None, None, 1.0, 1.0]
    assert "could not be run" in played.rounds[0].said
    assert "too much time" in played.rounds[1].said
    assert summary_of({"day01": played})["not_gradable"] == 2


async def test_the_folder_changes_between_rounds(tmp_path: Path, sandbox: Sandbox) -> None:
    changes = [
        {"action": "new", "path": "new/a.txt", "source": "s.txt"},
        {"action": "append", "path": "list.txt", "source": "s.txt"},
        {"action": "insert", "path": "list.txt", "source": "s.txt", "param": {"after": 1}},
        {"action": "delete", "path": "list.txt", "param": {"lines": [1, "2:3"]}},
        {"type": "session", "action": "new", "path": "chat.jsonl", "source": "s.txt"},
    ]
    dataset = dataset_of(
        tmp_path, work("true", update=changes), files={"list.txt": "one\ntwo\nthree\n"}, beside={"s.txt": "said\n"}
    )
    async with workplace(dataset, dataset.days[0], sandbox) as place:
        await place.update(dataset.days[0].rounds[0].update, dataset.days[0].sources)
        found = {
            str(one.relative_to(place.folder)): one.read_text() for one in place.folder.rglob("*") if one.is_file()
        }
    assert found == {"list.txt": "said\nthree\nsaid\n", "new/a.txt": "said\n", "sessions/chat.jsonl": "said\n"}


async def test_no_link_and_no_pipe_of_the_agent_leads_out(tmp_path: Path, sandbox: Sandbox) -> None:
    """PITFALLS S5, for what we write after the agent: its folder may hold anything."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("kept", encoding="utf-8")
    change = {"action": "append", "path": "a.txt", "source": "s.txt"}
    dataset = dataset_of(
        tmp_path / "d",
        work("cat scripts/sub/x; ls", update=[change]),
        scripts={"sub/x": "check"},
        beside={"s.txt": "s"},
    )
    asked = dataset.days[0].rounds[0]
    async with workplace(dataset, dataset.days[0], sandbox) as place:
        (place.folder / "a.txt").symlink_to(outside / "a.txt")
        (place.folder / "scripts").mkdir()
        (place.folder / "scripts" / "sub").symlink_to(outside)
        os.mkfifo(place.folder / "pipe")
        deep = place.folder
        for _ in range(60):
            deep = deep / ("d" * 30)
            deep.mkdir()
        outcome = await place.check(asked.eval)
        if not isinstance(sandbox.confinement, Unconfined):
            await place.update(asked.update, dataset.days[0].sources)
    assert outcome.stdout.startswith(b"check"), "the scripts are there, whatever was in their place"
    assert [(one.name, one.read_text()) for one in outside.iterdir()] == [("a.txt", "kept")]


async def test_a_run_that_broke_off_goes_on_with_the_day_that_it_had_not_finished(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    dataset, out, ids = read_dataset(DAYS), tmp_path / "out", count()
    how = Run(dataset=str(dataset.path), agent="bench", model="m", is_frozen=False, max_turns=8)
    begin_run(out, how)
    master = Apprentice(knows_all=True)

    def failing(body: Json) -> Answer:
        return Answer(status=400, body=b'{"error": {"message": "no"}}') if "landlord" in str(body) else master(body)

    async def play(script: Any) -> tuple[list[str], list[str]]:
        here.llm.script, played = script, list[str]()
        broken = await play_days(
            here.player, dataset.days[:3], out, night=None, concurrency=1, new_id=lambda: str(next(ids)),
            done=lambda day: played.append(day.day),
        )  # fmt: skip
        return played, [one.day for one in broken]

    async with world(tmp_path / "home", sandbox, dataset, master) as here:
        assert await play(failing) == (["day01"], ["day02"]), "no day follows one that was not had"
        assert await play(master) == (["day02", "day03"], [])
        assert await play(master) == ([], [])
    assert [len(day.rounds) for day in read_days(out).values()] == [3, 3, 4]
    begin_run(out, how)
    with pytest.raises(ConfigError, match=r"another run lies in .*agent 'bench' \(now 'other'\)"):
        begin_run(out, how.model_copy(update={"agent": "other"}))
    with pytest.raises(ConfigError, match="is not empty"):
        begin_run(tmp_path, how)
    with pytest.raises(ConfigError, match="the dataset is not what it was"):
        begin_run(out, how.model_copy(update={"digest": "other"}))
    with alone_in(out), pytest.raises(ConfigError, match="another `metaclaw bench run` plays"), alone_in(out):
        pass
    (out / "broken.day.json").mkdir()
    with pytest.raises(ConfigError, match=r"cannot read .*broken\.day\.json"):
        read_days(out)


async def test_a_round_ends_after_its_answers(tmp_path: Path, sandbox: Sandbox) -> None:
    async with world(
        tmp_path / "home", sandbox, dataset_of(tmp_path / "d", work("true")), doing(*["true"] * 20)
    ) as here:
        here.llm.script = lambda _: doing("true")({"messages": [{"role": "user"}]})
        played = await here.play(1, max_turns=3, is_frozen=True)
    assert (played.rounds[0].is_cut, played.rounds[0].turns, played.rounds[0].tool_calls) == (True, 3, 3)


LYING = "import sys; print('all is well'); sys.exit(0)"


@pytest.mark.parametrize(
    "left",
    [
        'mkdir -p scripts && echo "$LIE" > scripts/json.py',
        'mkdir -p scripts && echo "$LIE" > scripts/check.py',
        "ln -s /tmp scripts",
        'echo "$LIE" > json.py',
        "for n in 9 10 11 12 13 14; do d=.local/lib/python3.$n/site-packages; mkdir -p $d; "
        'echo "$LIE" > $d/usercustomize.py; done',
    ],
)
async def test_nothing_that_the_agent_leaves_speaks_for_a_check(tmp_path: Path, sandbox: Sandbox, left: str) -> None:
    check = "import json, helper, sys; print(json.dumps(helper.WORD)); sys.exit(1)"
    for command in ("python scripts/check.py", f'python -c "{check}"'):
        dataset = dataset_of(
            tmp_path / command[7:9], work(command), scripts={"check.py": check, "helper.py": "WORD = 'not done'"}
        )
        script = doing(f'LIE="{LYING}"; {left}')
        async with world(tmp_path / f"home{command[7:9]}", sandbox, dataset, script) as here:
            [played] = (await here.play(1)).rounds
        assert (played.score, played.said) == (0.0, '"not done"')


async def test_a_check_can_try_what_was_written(tmp_path: Path, sandbox: Sandbox) -> None:
    script = {"check.py": "import greeting; print(greeting.WORD)"}
    works = [work('python -c "import greeting; print(greeting.WORD)"'), work("python scripts/check.py", id="r2")]
    for number, scripts in ((2, script), (1, None)):
        dataset = dataset_of(tmp_path / f"set{number}", *works[:number], scripts=scripts)
        writing = doing("echo 'WORD = 1' > greeting.py", "true")
        async with world(tmp_path / f"home{number}", sandbox, dataset, writing) as here:
            assert [one.said for one in (await here.play(1)).rounds] == ["1"] * number


async def test_what_nobody_can_copy_ends_no_day(tmp_path: Path, sandbox: Sandbox) -> None:
    """A folder so deep that it has no path: the check sees the rest."""
    deep = (
        "echo yes > done.txt; name=$(printf %090d 0); i=0;"
        " while [ $i -lt 60 ]; do mkdir $name && cd $name; i=$((i+1)); done"
    )
    dataset = dataset_of(tmp_path / "set", work("test -e done.txt"))
    async with world(tmp_path, sandbox, dataset, doing(deep)) as here:
        assert [one.score for one in (await here.play(1)).rounds] == [1.0]


async def test_a_folder_that_is_too_large_is_not_copied_and_that_is_said(tmp_path: Path, sandbox: Sandbox) -> None:
    dataset = dataset_of(tmp_path / "set", work("true"))
    large = "i=0; while [ $i -lt 12 ]; do truncate -s 200M big$i; i=$((i+1)); done"
    async with world(tmp_path, sandbox, dataset, doing(large)) as here:
        [played] = (await here.play(1)).rounds
    assert played.score is None
    assert "the folder holds more than 2 GiB" in played.said


async def test_what_is_in_the_way_of_an_update_ends_no_day(tmp_path: Path, sandbox: Sandbox) -> None:
    update = {"type": "workspace", "action": "new", "path": "day01/late.txt", "source": "late.txt"}
    dataset = dataset_of(
        tmp_path / "set", work("false"), work("grep -q Late day01/late.txt", id="r2", update=[update]),
        beside={"late.txt": "Late."},
    )  # fmt: skip
    async with world(tmp_path, sandbox, dataset, doing("echo mine > day01", "true")) as here:
        await here.play(1)
        assert [one.is_idle for one in (await here.play(1)).rounds] == [False, True]


async def test_a_dataset_shows_nothing_of_the_machine_by_a_link(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "secret").write_text("the key is 42")
    folder = tmp_path / "set"
    dataset_of(folder, work("true"), files={"USER.md": "Ines"})
    (folder / "workspace" / "AGENTS.md").symlink_to(tmp_path / "secret")
    async with world(tmp_path, sandbox, read_dataset(folder), doing()) as here:
        await here.play(1)
        prompt = here.llm.requests[0]["messages"][0]["content"]
    assert "Ines" in prompt
    assert "42" not in prompt
    (folder / "eval" / "day01" / "late.txt").symlink_to(tmp_path / "secret")
    update = {"type": "workspace", "action": "new", "path": "a.txt", "source": "late.txt"}
    with pytest.raises(ConfigError, match="is a link to elsewhere"):
        dataset_of(folder, work("true", update=[update]))
