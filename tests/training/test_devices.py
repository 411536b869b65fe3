"""Which GPUs the two workers get, without a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.config_file import load_settings
from metaclaw.errors import ConfigError
from metaclaw.training.api.server import make_deps
from metaclaw.training.devices import assign_devices, visible_gpus

TWO = ("0", "1")


def server(**own):
    return load_settings(overrides={f"train_server.{name}": value for name, value in own.items()}).train_server


def test_without_a_gpu_torch_decides_and_nothing_is_hidden():
    both = assign_devices(server(), visible=())
    assert {both.training.torch_name, both.inference.torch_name} == {"auto"}
    assert not both.training.environment
    assert not both.inference.environment


def test_one_gpu_is_shared_and_two_are_divided():
    one = assign_devices(server(), visible=("0",))
    assert one.training.indices == one.inference.indices == (0,)
    two = assign_devices(server(), visible=TWO)
    assert (two.training.indices, two.inference.indices) == ((0,), (1,))
    swapped = assign_devices(server(training_devices="1"), visible=TWO)
    assert (swapped.training.indices, swapped.inference.indices) == ((1,), (0,))


def test_each_worker_sees_its_own_gpu_alone_and_calls_it_the_first():
    both = assign_devices(server(training_devices="cuda:1", inference_devices="0"), visible=TWO)
    assert both.training.environment == {"CUDA_VISIBLE_DEVICES": "1"}
    assert both.inference.environment == {"CUDA_VISIBLE_DEVICES": "0"}
    assert both.training.torch_name == both.inference.torch_name == "cuda:0"


def test_devices_are_counted_among_those_that_this_process_was_given():
    """A scheduler that gave us GPUs 5 and 7 must not find us on 0."""
    both = assign_devices(server(training_devices="cuda:1"), visible=visible_gpus({"CUDA_VISIBLE_DEVICES": "5, GPU-7"}))
    assert both.training.environment == {"CUDA_VISIBLE_DEVICES": "GPU-7"}
    assert both.inference.environment == {"CUDA_VISIBLE_DEVICES": "5"}


def test_the_cpu_hides_every_gpu():
    both = assign_devices(server(training_devices="cpu"), visible=TWO)
    assert both.training.environment == {"CUDA_VISIBLE_DEVICES": ""}
    assert both.training.torch_name == "cpu"


def test_a_sampler_that_takes_a_gpu_for_itself_is_refused_the_engines():
    """PITFALLS B8: vLLM took the training GPU, and its devices were never set."""
    with pytest.raises(ConfigError, match="cuda:0 is a training device as well"):
        assign_devices(server(), sampler="vllm", visible=("0",))
    with pytest.raises(ConfigError, match="cuda:1 is a training device as well"):
        assign_devices(server(training_devices="1", inference_devices="0,1"), sampler="vllm", visible=TWO)
    assert assign_devices(server(), sampler="vllm", visible=TWO).inference.indices == (1,)
    assert assign_devices(server(), sampler="vllm", visible=()).inference.torch_name == "auto"
    assert assign_devices(server(inference_devices="cpu"), sampler="vllm", visible=("0",)).inference.torch_name == "cpu"


def test_more_devices_than_can_be_used_are_refused_with_the_reason():
    with pytest.raises(ConfigError, match="the engine of this release trains on one: give"):
        server(training_devices="0,1")
    with pytest.raises(ConfigError, match="runs on one"):
        assign_devices(server(inference_devices="0,1"), visible=TWO)
    with pytest.raises(ConfigError, match=r"there is no cuda:2; this process sees 2 GPU\(s\): cuda:0, cuda:1"):
        assign_devices(server(inference_devices="2"), visible=TWO)
    with pytest.raises(ConfigError, match="sees no GPU"):
        assign_devices(server(training_devices="cuda:0"), visible=())


def test_a_list_of_devices_may_be_written_as_people_do(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("train_server:\n  training_devices: 0\n  inference_devices: [1, 2]\n")
    found = load_settings(tmp_path, env={}).train_server
    assert (found.training_devices, found.inference_devices) == ("cuda:0", "cuda:1,cuda:2")
    assert server(training_devices=" CUDA ").training_devices == "cuda:0"
    for wrong in ("gpu", "cuda:", "0,,1", "0 1", "-1", "0,0", "", "cuda:x"):
        with pytest.raises(ConfigError, match=r"train_server\.inference_devices"):
            server(inference_devices=wrong)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True))
def test_whatever_is_visible_no_two_workers_share_what_one_takes_for_itself(asked: list[int]):
    names = [f"GPU-{number}" for number in range(8)]
    own = server(training_devices=str(asked[0]), inference_devices=",".join(map(str, asked[1:])) or "auto")
    both = assign_devices(own, sampler="vllm", visible=names)
    trains, samples = (
        worker.environment["CUDA_VISIBLE_DEVICES"].split(",") for worker in (both.training, both.inference)
    )
    assert trains == [f"GPU-{asked[0]}"]
    assert not set(trains) & set(samples)


def test_gpus_are_counted_by_their_device_nodes(tmp_path: Path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert visible_gpus({}, tmp_path) == TWO
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "3,-1,4"}, tmp_path) == ("3",)
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == ()


def test_devices_are_set_where_the_worker_is_started_and_never_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    before = dict(os.environ)
    deps = make_deps(server(training_devices="cuda:1", inference_devices="cpu"), tmp_path, "m", tmp_path, "k")
    assert deps.engine.environment["CUDA_VISIBLE_DEVICES"] == "5"
    assert deps.engine.start["device"] == "cuda:0"
    assert deps.sampler.environment["CUDA_VISIBLE_DEVICES"] == ""
    assert deps.sampler.start["device"] == "cpu"
    assert dict(os.environ) == before
