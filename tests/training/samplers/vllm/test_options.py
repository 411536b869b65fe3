"""How vLLM is started, and what users may not change of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from metaclaw.config import TrainServerSettings
from metaclaw.errors import ConfigError
from metaclaw.training.api.sampler_choice import sampler_spec
from metaclaw.training.devices import assign_devices
from metaclaw.training.samplers.vllm.options import VllmOptions, arguments, environment, parse_extra_arguments
from tests.training.samplers.vllm.test_installation import answering


def options(**changes) -> VllmOptions:
    given = {
        "python": Path("/venv/bin/python"), "base_model": Path("/models/m"), "dtype": "bfloat16", "is_cpu": False,
        "max_context": 4096, "max_concurrent": 32, "max_lora_rank": 48, "max_loras": 4, "max_held_loras": 40,
        "threads": 0, "kv_cache_gb": 0.0, "num_devices": 2, "lora_layers": ("q_proj",), "seed": 7,
        "extra_arguments": ("--block-size", "32"),
    }  # fmt: skip
    return VllmOptions(**{**given, **changes})


def test_the_key_is_in_the_environment_of_the_child_alone():
    before = dict(os.environ)
    child = environment(
        options(), api_key="s3cret", base={"PATH": "/bin", "VLLM_SERVER_DEV_MODE": "1", "PYTHONPATH": "x"}
    )
    assert child["VLLM_API_KEY"] == "s3cret"
    assert "s3cret" not in " ".join(arguments(options(), port=1))
    assert not {"VLLM_SERVER_DEV_MODE", "PYTHONPATH"} & child.keys()  # KNOWLEDGE 1.4; its own packages, not ours
    assert child["PATH"].startswith("/venv/bin:")
    assert os.environ == before


def test_the_largest_rank_is_one_that_vllm_knows_and_the_context_has_room_to_score_it_whole():
    given = arguments(options(), port=4711)
    assert given[given.index("--max-lora-rank") + 1] == "64"
    assert given[given.index("--max-model-len") + 1] == "4097"
    assert given[given.index("--tensor-parallel-size") + 1] == "2"
    assert given[-2:] == ["--block-size", "32"]
    assert given[given.index("--host") + 1] == "127.0.0.1"


@pytest.mark.parametrize(
    "text", ["--host 0.0.0.0", "--logprobs-mode=raw_logprobs", "--trust-remote-code", "--max_loras 1", "--api-key x"]
)
def test_arguments_that_would_change_what_we_rely_on_are_refused(text):
    with pytest.raises(ConfigError, match=r"train_server\.vllm_args: --"):
        parse_extra_arguments(text)


def test_arguments_are_words_as_a_shell_reads_them():
    assert parse_extra_arguments("--a 'b c'") == ("--a", "b c")
    with pytest.raises(ConfigError, match="command line"):
        parse_extra_arguments("--a 'b")


def test_vllm_gets_the_devices_that_were_asked_for_and_the_engine_others(tmp_path):

    python = answering(tmp_path / "python", vllm="0.32.1")
    server = TrainServerSettings(
        sampler="vllm", vllm_python=python, training_devices="cuda:0", inference_devices="cuda:1,cuda:2"
    )
    devices = assign_devices(server, sampler="vllm", visible=("4", "5", "6"))
    spec = sampler_spec(server, {}, devices.inference, environment={"A": "1"}, data_dir=tmp_path)
    assert (spec.name, spec.role) == ("sampler", "vllm")
    assert spec.environment == {"A": "1", "CUDA_VISIBLE_DEVICES": "5,6"}
    assert spec.start["num_devices"] == 2
