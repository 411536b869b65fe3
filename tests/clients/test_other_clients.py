"""Clients that we did not write, unchanged, each in the environment that it pins, against a real server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.tiny_model import make_tiny_model
from tests.fakes.training_server import API_KEY, TrainingServer, training_server

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingServer]:
    root = tmp_path_factory.mktemp("clients")
    with training_server(make_tiny_model(root / "tiny-qwen3"), root / "data", max_context=1024) as running:
        yield running


def run(venv: str, script: str, *arguments: str, **environment: str) -> dict:
    """The JSON that ``script`` prints last, run by the Python of ``venv``."""
    python = ROOT / venv / "bin" / "python"
    if not python.with_name("pip").exists():
        pytest.fail(f"{venv} is missing: run `make clients`")
    # Nothing of our environment: neither our packages nor the keys of whoever runs the tests.
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "TINKER_TELEMETRY": "0", "HF_HUB_OFFLINE": "1"}
    command = [str(python), "-W", "ignore", str(ROOT / "tests" / "clients" / script), *arguments]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("key", [f"tml-{API_KEY}", f"sk-{API_KEY}"])
def test_the_sdk_of_mint_trains_resumes_samples_and_downloads(server, key):
    """Protocol section 11: tinker 0.22 underneath, JSON bodies, and keys that begin with 'sk-'."""
    seen = run(".venv-mint", "mint_client.py", "tiny-qwen3", MINT_BASE_URL=server.url, MINT_API_KEY=key)
    assert (seen["sdk"], seen["tinker"]) == ("0.2.0", "0.22.0")
    assert seen["models"] == [str(server.model)]
    assert seen["losses"] == sorted(seen["losses"], reverse=True)
    assert len(seen["losses"]) == 5
    assert seen["resumed_rank"] == 4
    assert seen["policy_loss"] == pytest.approx(-1, abs=0.01)
    assert (seen["sampled"], seen["same_tokens"]) == ([6, 6], True)
    assert (seen["scored"], seen["prompt_logprobs"]) == (3, 3)
    assert seen["files"] == ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]
    assert seen["checkpoints"] == ["sampler_weights/v1"]


def test_the_loops_of_the_cookbook_train_by_examples_and_by_reward(server, tmp_path):
    """Unchanged ``supervised.train`` and ``rl.train``; the second starts from what the first saved."""
    seen = run(
        ".venv-cookbook", "cookbook_client.py", str(server.model), str(tmp_path),
        TINKER_BASE_URL=server.url, TINKER_API_KEY=f"tml-{API_KEY}",
    )  # fmt: skip
    assert seen["sdk"].startswith("0.38.")
    nll = seen["nll"]  # in 55 runs the last was .31 to .50 of the first; the reward below rose by .49 to .85 in 30 runs
    assert nll[-1] < 0.7 * nll[0]
    assert [row["name"] for row in seen["sft_checkpoints"]] == ["000002", "final"]
    assert max(map(abs, seen["kl"])) < 1e-3  # what was sampled is what was trained on
    assert sum(seen["reward"][-3:]) / 3 > seen["reward"][0] + 0.1
    assert seen["rl_checkpoints"][-1]["name"] == "final"
    assert seen["rl_checkpoints"][-1]["sampler_path"].startswith("tinker://")
