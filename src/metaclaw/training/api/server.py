"""``serve(settings)``: the training server from settings to the end of the process.

Owns the listening socket, the workers' start options and the names of the base model; refuses to know routes.
Invariant: whatever cannot work (no key, a taken port, a missing model) is said in one sentence before a worker is
started; an open address without a key is refused by the settings themselves.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from metaclaw.config import Settings, TrainServerSettings
from metaclaw.errors import ConfigError, ProcessError
from metaclaw.http.declined_upgrades import DecliningHttpProtocol
from metaclaw.training.api.admission import Load
from metaclaw.training.api.app import ServerDeps, make_app
from metaclaw.training.api.hub import local_folder
from metaclaw.training.api.sampler_choice import sampler_spec
from metaclaw.training.api.sampling import BaseModel
from metaclaw.training.api.workers import WorkerSpec
from metaclaw.training.data_dir import alone_in
from metaclaw.training.devices import ENGINE_ALLOCATOR, assign_devices
from metaclaw.training.model_shape import count_parameters

_BACKLOG = 2048
_GRACE_S = 5  # for answers under way when the server is told to stop
_KEEP_ALIVE_S = 75  # longer than clients keep idle connections, so that it is never we who close under a request

_CHECKPOINTING = {"auto": None, "on": True, "off": False}

_log = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Run the training server until SIGTERM or SIGINT.

    Raises ``ConfigError``, ``ModelSourceError`` or ``ProcessError`` when it cannot start.
    """
    server = settings.train_server
    key = server.api_key.get_secret_value()
    if not key:
        raise ConfigError("train_server.api_key is empty: nobody could use this server")
    name = server.base_model or settings.rl.model
    if not name:
        raise ConfigError("no base model: set train_server.base_model or rl.model, or pass --base-model")
    directory = local_folder(name)
    listener = listen(server.host, server.port)
    with listener, alone_in(settings.train_server_dir):
        deps = make_deps(server, settings.train_server_dir, name, directory, key)
        app = make_app(deps)
        config = uvicorn.Config(
            app, loop="uvloop", http=DecliningHttpProtocol, lifespan="on", log_config=None, access_log=False,
            timeout_keep_alive=_KEEP_ALIVE_S, timeout_graceful_shutdown=_GRACE_S, backlog=_BACKLOG,
        )  # fmt: skip
        host, port = listener.getsockname()[:2]
        _log.info("training server for %s on http://%s:%d", name, f"[{host}]" if ":" in host else host, port)
        _Server(config, on_stop=app.state.stop_waiting).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Sends parked polls home when it is told to stop, instead of waiting for them."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_stop()
        await super().shutdown(sockets)


def make_deps(server: TrainServerSettings, data_dir: Path, name: str, directory: Path, api_key: str) -> ServerDeps:
    """What the application needs, from settings. Raises ``ConfigError`` or ``ProcessError`` for what cannot work."""
    devices = assign_devices(server, sampler=server.sampler)
    start: dict[str, Any] = {
        "base_model": str(directory),
        "dtype": server.dtype,
        "max_context": server.max_context,
        "max_lora_rank": server.max_lora_rank,
    }
    aliases = frozenset((str(directory), directory.name, Path(name).name, name.rstrip("/")))
    return ServerDeps(
        api_key=api_key,
        data_dir=data_dir,
        base=BaseModel(
            name=name, aliases=aliases, directory=str(directory), num_parameters=count_parameters(directory)
        ),
        engine=WorkerSpec(
            name="engine",
            start={
                **start,
                "device": devices.training.torch_name,
                "threads": server.engine_threads,
                "max_batch_tokens": server.max_batch_tokens,
                "gradient_checkpointing": _CHECKPOINTING[server.gradient_checkpointing],
                "adapter_memory_mb": server.adapter_memory_mb,
                "adapter_host_memory_mb": server.adapter_host_memory_mb,
                "spill_dir": str(data_dir / "idle-adapters"),
            },
            environment={**_threads(server.engine_threads), **ENGINE_ALLOCATOR, **devices.training.environment},
        ),
        sampler=sampler_spec(
            server, start, devices.inference, environment=_threads(server.sampler_threads), data_dir=data_dir
        ),
        max_rank=server.max_lora_rank,
        max_import_bytes=server.max_import_mb * 2**20,
        limits={
            "training": Load(tokens=server.max_queued_tokens, size_bytes=server.max_queued_mb * 2**20),
            "sampling": Load(requests=server.max_concurrent + server.max_queued, tokens=server.max_queued_tokens),
        },
    )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises ``ProcessError`` that says what is wrong with the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
    except OSError as error:
        listener.close()
        raise ProcessError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Stop what uses it, or set train_server.port"
        ) from error
    return listener


def _threads(number: int) -> dict[str, str]:
    # torch's OpenMP threads spin when idle; beside a second process on the same cores that costs a factor of ten.
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
    return {**environment, "OMP_NUM_THREADS": str(number)} if number else environment
