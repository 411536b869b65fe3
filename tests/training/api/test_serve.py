"""What ``serve`` refuses before anything is started."""

from __future__ import annotations

import socket

import pytest

from metaclaw.config import Settings
from metaclaw.errors import ConfigError, ModelSourceError, ProcessError
from metaclaw.training.api.server import listen, serve


def settings(tmp_path, **own):
    return Settings.model_validate({"train_server": {"api_key": "k", "data_dir": str(tmp_path / "data"), **own}})


def test_a_server_that_nobody_could_use_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="api_key is empty"):
        serve(settings(tmp_path, api_key=""))


def test_no_model_and_no_such_model_are_named(tmp_path):
    with pytest.raises(ConfigError, match="no base model"):
        serve(settings(tmp_path))
    with pytest.raises(ModelSourceError, match="nowhere"):
        serve(settings(tmp_path, base_model=str(tmp_path / "nowhere")))


def test_a_port_that_is_taken_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ProcessError, match=f"127.0.0.1:{port}"):
            listen("127.0.0.1", port)
