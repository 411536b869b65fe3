"""What ``serve`` refuses before anything is started."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from metaclaw.config import Settings
from metaclaw.errors import ConfigError, ModelSourceError, ProcessError
from metaclaw.training.api.server import listen, serve
from metaclaw.training.data_dir import alone_in, is_in_use


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


def test_a_second_server_on_one_folder_is_refused_and_a_dead_one_is_nobody(tmp_path):
    code = (
        "import sys; from pathlib import Path; from metaclaw.training.data_dir import alone_in\n"
        "with alone_in(Path(sys.argv[1])):\n    print('in', flush=True)\n    input()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout is not None
        other.stdout.readline()
        assert is_in_use(tmp_path)
        with pytest.raises(ProcessError, match=f"another training server runs on {tmp_path}"), alone_in(tmp_path):
            pass
    finally:
        other.kill()
        other.communicate()
    assert not is_in_use(tmp_path)
    with alone_in(tmp_path):
        assert is_in_use(tmp_path)


def test_the_folder_is_the_users_own_and_one_that_cannot_be_used_is_named(tmp_path):
    with alone_in(tmp_path / "new" / "data"):
        assert (tmp_path / "new" / "data").stat().st_mode & 0o077 == 0
    (tmp_path / "file").touch()
    with pytest.raises(ProcessError, match=f"{tmp_path / 'file'} cannot be used"), alone_in(tmp_path / "file"):
        pass
