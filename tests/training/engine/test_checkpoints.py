"""Checkpoints: complete or absent, verified or refused, and exact."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metaclaw.errors import CheckpointError, ConflictError, EngineError
from metaclaw.training.checkpoints import (
    MANIFEST,
    OPTIMIZER_FILE,
    FileRecord,
    Manifest,
    read_checkpoint,
    read_manifest,
    sweep_unfinished,
    verify,
    write_checkpoint,
)
from metaclaw.training.commands import CreateModel, ForwardBackward, LoadModel, OptimStep, SaveSampler, SaveState
from metaclaw.training.engine import Engine
from metaclaw.training.model_identity import base_digest, config_sha256, revision
from tests.fakes.tiny_model import make_tiny_model
from tests.training.engine.conftest import MakeEngine
from tests.training.engine.material import (
    assert_close,
    create,
    forward_backward,
    gradients,
    policy,
    supervised,
    train,
    weights,
)
from tests.training.engine.workers import worker

# A process that saves for ever, and says so after the first time.
_WRITER = """
import sys
from pathlib import Path
from metaclaw.training.checkpoints import Manifest, write_checkpoint
manifest = Manifest(
    kind="state", base_digest="b", rank=4, alpha=32.0, train_mlp=True, train_attn=True, train_unembed=False,
    target_modules=("q_proj",), step=3, files={},
)
body = bytes(range(256)) * 4096
for number in range(10_000):
    write_checkpoint(Path(sys.argv[1]) / f"s{number}", {"adapter": body, "optimizer": body}, manifest)
    print("x", end="", flush=True)
"""

_MANIFEST = Manifest(
    kind="state", base_digest="b" * 64, rank=4, alpha=32.0, train_mlp=True, train_attn=True, train_unembed=False,
    target_modules=("q_proj",), step=3, files={},
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(make_engine: MakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state after two steps."""
    engine = make_engine()
    create(engine)
    train(engine)
    directory = tmp_path_factory.mktemp("checkpoints") / "state"
    answer = engine.execute(SaveState(model_id="m", directory=str(directory)))
    assert answer == {"size_bytes": read_manifest(directory).size_bytes}
    return directory


def _load(engine: Engine, directory: Path, model_id: str = "loaded", *, with_optimizer: bool = True) -> dict:
    return engine.execute(LoadModel(model_id=model_id, directory=str(directory), with_optimizer=with_optimizer))


@pytest.mark.parametrize("kind", ["tied", "untied"])
def test_training_resumes_bit_for_bit_after_a_kill(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """k steps, save, kill -9, load, k steps are 2k steps: with decay, clipping and two calls a step.

    Where the output embedding is a weight of its own, it is adapted too.
    """
    folder: Path = request.getfixturevalue(f"{kind}_folder")
    data = [((supervised(9, seed=step),), (supervised(14, seed=step), supervised(5, seed=step))) for step in range(4)]

    def steps(child, batches) -> list[dict]:
        metrics = []
        for calls in batches:
            for batch in calls:
                child.call(ForwardBackward(model_id="m", data=batch, loss="cross_entropy"))
            command = OptimStep(model_id="m", learning_rate=1e-2, weight_decay=0.1, grad_clip_norm=0.5)
            metrics.append(child.call(command)["ok"]["metrics"])
        return metrics

    with worker(folder) as whole:
        whole.call(CreateModel(model_id="m", rank=4, seed=5))
        steps(whole, data[:2])
        whole.call(SaveState(model_id="m", directory=str(tmp_path / "half")))
        expected = steps(whole, data[2:])
        whole.call(SaveState(model_id="m", directory=str(tmp_path / "whole")))
    with worker(folder) as killed:
        killed.call(CreateModel(model_id="m", rank=4, seed=5))
        steps(killed, data[:2])
        killed.call(ForwardBackward(model_id="m", data=data[3][0], loss="cross_entropy"))  # is not part of the state
        killed.call(SaveState(model_id="m", directory=str(tmp_path / "saved")))
        killed.post(ForwardBackward(model_id="m", data=data[2][1], loss="cross_entropy"))
        killed.process.kill()
        killed.process.wait(timeout=10)
    assert read_manifest(tmp_path / "saved") == read_manifest(tmp_path / "half")
    with worker(folder) as resumed:
        answer = resumed.call(LoadModel(model_id="m", directory=str(tmp_path / "saved"), with_optimizer=True))
        assert answer["ok"]["rank"] == 4
        assert steps(resumed, data[2:]) == expected
        assert all(metrics["grad_scale"] < 1 for metrics in expected)
        resumed.call(SaveState(model_id="m", directory=str(tmp_path / "resumed")))
    assert read_manifest(tmp_path / "resumed") == read_manifest(tmp_path / "whole")  # of equal hashes
    adapted = safetensors.torch.load_file(tmp_path / "resumed" / "adapter_model.safetensors")
    assert any("lm_head" in name for name in adapted) is (kind == "untied")


def test_a_file_that_the_manifest_does_not_name_is_refused(saved: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(saved, tmp_path / "copy")
    (copy / "adapter_model.bin").write_bytes(b"\x80\x04pickle")
    with pytest.raises(CheckpointError, match=r"adapter_model\.bin is not named in manifest\.json"):
        verify(copy)


def test_an_edited_manifest_is_refused(saved: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(saved, tmp_path / "copy")
    original = (copy / MANIFEST).read_text()
    for old, new in (('"step": 2', '"step": 3'), ('"rank": 4', '"rank": 8'), ('"alpha": 32.0', '"alpha": 16.0')):
        assert old in original
        (copy / MANIFEST).write_text(original.replace(old, new))
        with pytest.raises(CheckpointError, match=r"manifest\.json is damaged: its own digest"):
            verify(copy)


def test_a_state_of_another_rank_does_not_go_into_a_model(engine: Engine, saved: Path) -> None:
    create(engine, "wider", rank=8)
    before = weights(engine, "wider")
    with pytest.raises(CheckpointError, match="does not fit 'wider': its rank is 4, not 8"):
        _load(engine, saved, "wider")
    create(engine, "fewer", train_mlp=False)
    with pytest.raises(CheckpointError, match="its train_mlp is True, not False"):
        _load(engine, saved, "fewer")
    assert_close(weights(engine, "wider"), before, 0.0)


def test_a_manifest_says_which_base_it_is_of(saved: Path, tied_folder: Path) -> None:
    manifest = read_manifest(saved)
    assert manifest.base_digest == base_digest(tied_folder)
    assert manifest.base_config_sha256 == config_sha256(tied_folder)
    snapshot = Path("/cache/models--acme--base/snapshots/0123abcd")
    assert (manifest.base_revision, revision(snapshot)) == ("", "0123abcd")


def test_a_load_answers_what_the_model_is_and_can_leave_the_optimiser_behind(engine: Engine, saved: Path) -> None:
    expected = {"rank": 4, "alpha": 32.0, "train_mlp": True, "train_attn": True, "train_unembed": True}
    assert expected.items() <= _load(engine, saved, "with").items()
    _load(engine, saved, "without", with_optimizer=False)
    assert_close(weights(engine, "with"), weights(engine, "without"), 0.0)
    for name, step in (("with", 3.0), ("without", 1.0)):
        forward_backward(engine, (supervised(5),), model_id=name)
        assert engine.execute(OptimStep(model_id=name))["metrics"]["step"] == step


def test_a_load_into_a_model_replaces_its_weights_and_drops_its_gradients(engine: Engine, saved: Path) -> None:
    create(engine, "m", seed=99)
    forward_backward(engine, (supervised(5),))
    _load(engine, saved, "m")
    assert gradients(engine) == {}
    _load(engine, saved, "other")
    assert_close(weights(engine, "m"), weights(engine, "other"), 0.0)


def test_a_state_before_the_first_step_loads(engine: Engine, tmp_path: Path) -> None:
    create(engine)
    engine.execute(SaveState(model_id="m", directory=str(tmp_path / "zero")))
    _load(engine, tmp_path / "zero")
    assert_close(weights(engine, "m"), weights(engine, "loaded"), 0.0)


@pytest.mark.parametrize(
    "settings", [{"rank": 8}, {"alpha": 16.0}, {"train_mlp": False}], ids=lambda settings: next(iter(settings))
)
def test_a_state_of_another_shape_is_refused_and_changes_nothing(engine: Engine, saved: Path, settings: dict) -> None:
    create(engine, "m", **settings)
    before = weights(engine)
    with pytest.raises(CheckpointError, match=next(iter(settings))):
        _load(engine, saved, "m")
    assert_close(weights(engine), before, 0.0)


def test_a_state_of_another_base_is_refused(make_engine: MakeEngine, saved: Path, tmp_path: Path) -> None:
    other = make_engine(make_tiny_model(tmp_path / "other", seed=1))
    with pytest.raises(CheckpointError, match="another base model, of the same configuration with other weights"):
        _load(other, saved)
    assert other.model_ids == frozenset()


def test_weights_for_the_sampler_are_not_a_state(engine: Engine, tmp_path: Path) -> None:
    create(engine)
    engine.execute(SaveSampler(model_id="m", directory=str(tmp_path / "sampler")))
    assert verify(tmp_path / "sampler").kind == "sampler"
    assert not (tmp_path / "sampler" / OPTIMIZER_FILE).exists()
    with pytest.raises(CheckpointError, match="only a saved state"):
        _load(engine, tmp_path / "sampler")


def test_tensors_that_do_not_fit_are_named_and_leave_no_model(engine: Engine, saved: Path, tmp_path: Path) -> None:
    """A whole checkpoint whose tensors are not this adapter's: as a foreign writer would make it."""
    manifest, files = read_checkpoint(saved, base_digest=engine.base.ready.base_digest)
    write_checkpoint(tmp_path / "wider", files, replace(manifest, rank=8))
    with pytest.raises(CheckpointError, match=r"lora_A.weight.* has the shape \(4, 64\), not \(8, 64\)"):
        _load(engine, tmp_path / "wider")
    write_checkpoint(tmp_path / "more", files, replace(manifest, train_mlp=False))
    with pytest.raises(CheckpointError, match=r"mlp.*is not part of this adapter"):
        _load(engine, tmp_path / "more", with_optimizer=False)
    write_checkpoint(tmp_path / "junk", files | {OPTIMIZER_FILE: b"\x80\x04pickle"}, manifest)
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors is not a safetensors file"):
        _load(engine, tmp_path / "junk")
    assert engine.model_ids == frozenset()


def test_an_adapter_that_is_not_finite_is_not_saved(engine: Engine, tmp_path: Path) -> None:
    create(engine)
    key, parameter = next(iter(engine.model("m").adapter.parameters.items()))
    with torch.no_grad():
        parameter[0, 0] = torch.inf
    for command in (SaveState, SaveSampler):
        with pytest.raises(CheckpointError, match=f"NaN or infinity in {key}"):
            engine.execute(command(model_id="m", directory=str(tmp_path / "bad")))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_never_overwritten(engine: Engine, saved: Path) -> None:
    create(engine)
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(ConflictError, match="never overwritten"):
        engine.execute(SaveState(model_id="m", directory=str(saved)))
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_everything_is_synced_before_it_has_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the first a power cut leaves an empty file under a good name; without the second, no name."""
    synced: list[tuple[str, bool]] = []
    sync = os.fsync

    def seen(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        synced.append((path.relative_to(tmp_path).as_posix(), (tmp_path / "states" / "s1").exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    write_checkpoint(tmp_path / "states" / "s1", {"a": b"1", "b": b"2"}, _MANIFEST)
    beside = "states/.unfinished-s1"
    assert synced == [
        (f"{beside}/a", False), (f"{beside}/b", False), (f"{beside}/{MANIFEST}", False), (beside, False),
        ("states", True),
    ]  # fmt: skip


def test_a_disk_that_refuses_is_the_engines_fault_and_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    create(engine)
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(EngineError, match="cannot write"):
        engine.execute(SaveSampler(model_id="m", directory=str(tmp_path / "file" / "checkpoint")))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@settings(max_examples=120, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), which=st.integers(0, 3))
def test_one_flipped_bit_anywhere_is_found(saved: Path, place: float, bit: int, which: int) -> None:
    path = sorted(saved.iterdir())[which]
    body = bytearray(path.read_bytes())
    original = bytes(body)
    body[int(place * len(body))] ^= 1 << bit
    path.write_bytes(body)
    try:
        with pytest.raises(CheckpointError, match=path.name.replace(".", r"\.")):
            read_checkpoint(saved, base_digest=json.loads(_manifest_text(saved, original, path))["base_digest"])
        with pytest.raises(CheckpointError, match=path.name.replace(".", r"\.")):
            verify(saved)
    finally:
        path.write_bytes(original)


def _manifest_text(directory: Path, original: bytes, changed: Path) -> bytes:
    return original if changed.name == MANIFEST else (directory / MANIFEST).read_bytes()


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", OPTIMIZER_FILE, MANIFEST])
def test_a_missing_or_shortened_file_is_named(saved: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(saved, tmp_path / "copy")
    body = (copy / name).read_bytes()
    (copy / name).write_bytes(body[:-1])
    with pytest.raises(CheckpointError, match=name):
        verify(copy)
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        verify(copy)


def test_a_manifest_may_not_point_outside_or_come_from_the_future(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "good", {"a": b"1"}, _MANIFEST)
    assert verify(tmp_path / "good", base_digest="b" * 64).files == {
        "a": FileRecord(sha256="6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b", size_bytes=1)
    }
    write_checkpoint(tmp_path / "newer", {"a": b"1"}, replace(_MANIFEST, format=2))
    with pytest.raises(CheckpointError, match="format 2"):
        read_manifest(tmp_path / "newer")
    (tmp_path / "secret").write_text("1")
    outside = tmp_path / "outside"
    write_checkpoint(outside, {"a": b"1"}, _MANIFEST)
    text = (outside / MANIFEST).read_text()
    (outside / MANIFEST).write_text(text.replace('"a"', '"../secret"'))
    with pytest.raises(CheckpointError, match="damaged"):
        verify(outside)


def test_the_identity_of_a_base_is_its_weights_and_not_its_folder(tied_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tied_folder, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"transformers_version": "9.9.9"}))
    assert base_digest(copy) == base_digest(tied_folder)
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-5}))
    assert base_digest(copy) != base_digest(tied_folder)
    same_shapes = make_tiny_model(tmp_path / "same_shapes", seed=1)
    assert base_digest(same_shapes) != base_digest(tied_folder)


def test_a_writer_killed_at_any_moment_leaves_only_whole_checkpoints(tmp_path: Path) -> None:
    """Processes that do nothing but save, killed without warning; most die within a save."""
    rng = random.Random(20261123)
    whole = unfinished = 0
    for number in range(10):
        parent = tmp_path / str(number)
        child = subprocess.Popen([sys.executable, "-c", _WRITER, str(parent)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.read(1)  # the first is written
        time.sleep(rng.uniform(0.0, 0.05))
        child.kill()
        child.wait(timeout=10)
        child.stdout.close()
        unfinished += len(sweep_unfinished(parent))
        for directory in parent.iterdir():
            assert verify(directory).step == 3
            whole += 1
    assert whole >= 10
    assert unfinished > 0, "no kill fell within a save: the test would prove nothing"


def test_an_engine_killed_while_it_saves_leaves_only_whole_checkpoints(tied_folder: Path, tmp_path: Path) -> None:
    with worker(tied_folder) as child:
        child.call(CreateModel(model_id="m", rank=32, seed=1))
        child.call(ForwardBackward(model_id="m", data=(policy(8),), loss="ppo"))
        child.call(OptimStep(model_id="m"))
        for number in range(400):
            child.post(SaveState(model_id="m", directory=str(tmp_path / f"s{number}")))
        child.receive()
        child.process.kill()
    sweep_unfinished(tmp_path)
    written = list(tmp_path.iterdir())
    assert 1 <= len(written) < 400
    assert {verify(directory).step for directory in written} == {1}
