"""``python -m metaclaw.training.worker engine|sampler|vllm``: one child process of the training server.

Owns the start of a worker: the streams, the priority, the base model, the first answer; refuses to know what a
worker does afterwards. Invariant: the first frame it writes says that the model is ready or why it is not.

The first frame it reads is ``{"id": 0, "op": "start", "base_model": folder, ...}`` with the options below; the
others (``max_concurrent``, ``max_lora_rank``, ``gradient_checkpointing`` ...) belong to the engine or the sampler.
"""

from __future__ import annotations

import importlib
import logging
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from metaclaw.errors import MetaClawError, MissingExtraError
from metaclaw.logs import configure_logs
from metaclaw.training.channel import Channel, Frame, claim_standard_streams
from metaclaw.training.failures import DeviceLostError, error_body
from metaclaw.training.priority import session_steps_back, step_back

_LOOPS = {
    "engine": ("metaclaw.training.engine_loop", "EngineLoop"),
    "sampler": ("metaclaw.training.samplers.process", "SamplerLoop"),
}
_VLLM = "vllm"  # a sampler that leaves the model to another program, and never loads it or torch itself
_ENGINE_NICE = 15  # decoding goes before training: the sampler's median token gap then stays as it was (90 -> 91 ms)
_ENGINE_SESSION_NICE = 10  # a tenth of a core that others want: training still gets on where all cores decode
_DEVICE_LOST_EXIT = 71  # EX_OSERR; the parent starts another process

_log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Run the worker named by the only argument until its parent goes away."""
    if len(arguments) != 1 or arguments[0] not in (*_LOOPS, _VLLM):
        print("usage: python -m metaclaw.training.worker engine|sampler|vllm", file=sys.stderr)  # noqa: T201
        return 2
    configure_logs(arguments[0])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides when we end
    role = arguments[0]
    if role == "engine":
        step_back(_ENGINE_NICE)
    return run_worker(role, claim_standard_streams())


def run_worker(role: str, channel: Channel) -> int:
    """Answer the start frame, then serve. Returns the exit code of a worker that could not start."""
    start = channel.receive()
    assert start is not None  # without a time limit, receive waits
    try:
        ready, loop = _start(role, start, channel)
    except MetaClawError as error:
        channel.send({"id": start["id"], "error": error_body(error)})
        return 1
    except Exception as error:  # noqa: BLE001 - the job boundary: the parent is told why, whatever it was
        _log.exception("the %s could not start", role)
        channel.send({"id": start["id"], "error": error_body(error)})
        return 1
    channel.send({"id": start["id"], "ok": ready})
    if role == "engine":  # not before: loading a model takes seconds, for which clients wait
        session_steps_back(_ENGINE_SESSION_NICE)
    try:
        loop.run()
    except DeviceLostError as error:
        _log.critical("the %s cannot go on in this process: %s", role, error)
        # Not by way of the interpreter's end, where destructors would still ask for the device.
        channel.end(_DEVICE_LOST_EXIT)
    return 0


def _start(role: str, start: Frame, channel: Channel) -> tuple[dict[str, Any], Any]:
    config = {key: value for key, value in start.items() if key not in ("id", "op")}
    if role == _VLLM:
        return _load("metaclaw.training.samplers.vllm.process").start_vllm(config, channel)
    base = _load("metaclaw.training.base_model").load_base(
        Path(config["base_model"]), device=config.get("device", "auto"), dtype=config.get("dtype", "auto"),
        threads=config.get("threads", 0), max_context=config.get("max_context", 0),
    )  # fmt: skip
    module, name = _LOOPS[role]
    loop = getattr(_load(module), name)(base, config, channel)
    return asdict(base.ready), loop


def _load(module: str) -> Any:
    """Import what needs torch, late: the parent's death is noticed while that takes its seconds."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("metaclaw"):
            raise
        raise MissingExtraError(f"the training server needs {error.name}: pip install 'metaclaw[rl]'") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
