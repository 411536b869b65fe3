"""``agents.ID.lora_output``: the adapter that serves also lies where the agent's settings say."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest
from safetensors.numpy import load_file

from metaclaw.errors import ConflictError
from metaclaw.journal.learning import LearningJournal
from metaclaw.journal.learning_records import Baseline, NewVersion
from metaclaw.journal.turns import TurnJournal
from metaclaw.learner.jobs import Patience
from metaclaw.learner.output_folder import CONFIG_FILE, MARK, WEIGHTS_FILE, Mark, clear, lies_there, put
from metaclaw.learner.outputs import Outputs
from tests.fakes.training_server import TrainingServer
from tests.learner.real_loop import holding, learner_for, settings_for
from tests.learner.talking import serving, talk

MINE = Mark(agent="a", version=1, path="tinker://x/sampler_weights/a1")


@pytest.mark.anyio
@pytest.mark.usefixtures("sdk_sockets")
async def test_every_version_that_serves_lies_there_whole_and_a_rollback_too(
    tmp_path: Path, trainer: TrainingServer
) -> None:
    settings = settings_for(tmp_path, trainer, warmup_steps=0)
    places = {"busy": tmp_path / "lora" / "busy", "late": tmp_path / "lora" / "late", "blocked": tmp_path / "config"}
    places["blocked"].write_text("a file")
    with LearningJournal.open(settings.learning_db) as journal, holding(settings) as holds:
        async with TurnJournal(settings.turns_db) as turns, aiohttp.ClientSession() as session:
            outputs = Outputs(
                journal=journal, session=session, rl=settings.rl, places=places, patience=Patience(first_s=0)
            )
            assert not await outputs.step()
            learner = learner_for(settings, journal, holds)
            _commit(journal, "blocked")
            seen = set[bytes]()
            for version in (1, 2):
                await talk(trainer, turns, serving(settings.learning_db, trainer, "busy"), 16, agent="busy")
                await learner.judging.step()
                assert await learner.updating.step()
                assert await outputs.step()
                mark = lies_there(places["busy"])
                assert mark is not None
                assert (mark.version, mark.path) == (version, journal.version("busy", version).sampler_path)
                assert (places["busy"] / WEIGHTS_FILE).read_bytes() == _at_the_server(trainer, mark.path)
                seen.add((places["busy"] / WEIGHTS_FILE).read_bytes())
            journal.serve("busy", 1, "rolled back")
            assert await outputs.step()
            config = json.loads((places["busy"] / CONFIG_FILE).read_text())
            weights = load_file(places["busy"] / WEIGHTS_FILE)
            journal.serve("busy", 0, "to the base model")
            assert not await outputs.step()
    assert len(seen) == 2
    assert (config["peft_type"], config["r"]) == ("LORA", 8)
    assert {array.shape[0] for name, array in weights.items() if name.endswith("lora_A.weight")} == {8}
    assert list(places["busy"].iterdir()) == []
    assert not places["late"].exists()


@pytest.mark.anyio
async def test_where_no_training_server_answers_what_lies_there_stays(
    tmp_path: Path, trainer: TrainingServer, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(tmp_path, trainer)
    rl = settings.rl.model_copy(update={"remote_url": "http://127.0.0.1:1"})
    place = tmp_path / "lora"
    put(place, _adapter(tmp_path, b"old"), MINE)
    with LearningJournal.open(settings.learning_db) as journal:
        _commit(journal, "a")
        async with aiohttp.ClientSession() as session:
            assert not await Outputs(journal=journal, session=session, rl=rl, places={"a": place}).step()
    assert "cannot be asked" in caplog.text
    assert (place / WEIGHTS_FILE).read_bytes() == b"old"


def test_a_folder_with_somebody_elses_adapter_is_left_alone(tmp_path: Path) -> None:
    place = _adapter(tmp_path / "theirs", b"theirs")
    with pytest.raises(ConflictError, match="did not write"):
        put(place, _adapter(tmp_path, b"ours"), MINE)
    clear(place)
    assert (place / WEIGHTS_FILE).read_bytes() == b"theirs"


def test_cut_off_at_any_file_a_reader_finds_one_whole_adapter_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for failing in range(5):
        place, fresh = tmp_path / f"{failing}", _adapter(tmp_path / "new", b"new", rank=8)
        put(place, _adapter(tmp_path / "old", b"old", rank=4), MINE)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", _failing_at(failing))
            newer = Mark(agent="a", version=2, path="tinker://x/sampler_weights/a2")
            if failing < 3:
                with pytest.raises(OSError, match="cut off"):
                    put(place, fresh, newer)
        rank = json.loads((place / CONFIG_FILE).read_text())["r"]
        if (place / WEIGHTS_FILE).exists():
            assert (rank, (place / WEIGHTS_FILE).read_bytes()) in ((4, b"old"), (8, b"new"))
        if failing < 3:
            assert lies_there(place) != newer
        put(place, fresh, newer)
        assert lies_there(place) == newer
        assert {path.name for path in place.iterdir()} >= {CONFIG_FILE, WEIGHTS_FILE, MARK}


def _commit(journal: LearningJournal, agent: str) -> None:
    path = f"tinker://nowhere/sampler_weights/{agent}"
    new = NewVersion(base_model="tiny", state_path=path.replace("sampler_weights", "weights"), sampler_path=path)
    update, baseline = journal.claim(agent, 0, []), Baseline(value=0.0, num_rewards=0)
    journal.commit(update, new, number=1, baseline=baseline, metrics={})


def _failing_at(number: int):
    left, replace = [number], Path.replace

    def stand_in(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("cut off")
        return replace(self, target)

    return stand_in


def _adapter(folder: Path, weights: bytes, *, rank: int = 8) -> Path:
    made = folder / "adapter"
    made.mkdir(parents=True, exist_ok=True)
    (made / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": rank}))
    (made / WEIGHTS_FILE).write_bytes(weights)
    return made


def _at_the_server(trainer: TrainingServer, path: str) -> bytes:
    name = path.rsplit("/", 1)[-1]
    (found,) = (trainer.data_dir / "checkpoints").glob(f"*/sampler_weights/{name}/{WEIGHTS_FILE}")
    return found.read_bytes()
