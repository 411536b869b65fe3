"""vLLM and whoever started it, killed with SIGKILL: nothing may stay behind, as it would hold the device's memory."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.fakes.tiny_model import make_tiny_model
from tests.fakes.training_server import training_server

START_S = 420.0


def eventually_gone(processes: list[psutil.Process]) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=30)[1]


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_a_killed_server_and_a_killed_keeper_leave_nothing_of_vllm(tmp_path: Path):
    model = make_tiny_model(tmp_path / "tiny")
    settings = {"sampler": "vllm", "vllm_kv_cache_gb": 1, "max_context": 256}
    with training_server(model, tmp_path / "data", start_s=START_S, **settings) as server:
        worker = psutil.Process(server.worker_pid("vllm"))
        first = [worker, *worker.children(recursive=True)]
        assert len(first) >= 4  # the worker, the keeper, the API server, the engine
        next(each for each in first if "keeper.py" in " ".join(each.cmdline())).kill()
        assert eventually_gone(first) == []
        server.wait_until_ready(START_S)
        second = psutil.Process(server.process.pid).children(recursive=True)
        assert any("api_server" in " ".join(each.cmdline()) for each in second)
        server.process.kill()
        assert eventually_gone(second) == []
