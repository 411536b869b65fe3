"""The sampler process: commands in, frames out, one thread that owns the model.

Owns the loop and what each command does; refuses to know how tokens are made. Invariants: commands are taken
between decode steps, in order of arrival; every command is answered; nothing that one command does ends the loop, as
long as the device is there.
"""

# pyright: basic

from __future__ import annotations

import gc
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from metaclaw.errors import CheckpointError, InvalidRequestError
from metaclaw.training.base_model import LoadedBase
from metaclaw.training.commands import Cancel, Generate, LoadAdapter, UnloadAdapter, parse_command
from metaclaw.training.failures import error_body
from metaclaw.training.samplers.adapter_loading import AdapterLoads
from metaclaw.training.samplers.adapter_table import AdapterTable
from metaclaw.training.samplers.decoder import Decoder
from metaclaw.training.samplers.forward import ForwardPass
from metaclaw.training.samplers.pace import ChunkLimits
from metaclaw.training.samplers.requests import Limits, Request, RequestReader
from metaclaw.training.samplers.rows import RowLimits
from metaclaw.training.samplers.slots import LoraSlots
from metaclaw.training.shared_device import IDLE_S, check_device, give_back, is_out_of_memory

Frame = dict[str, Any]

# Tokens of prompts in one step. While answers run, how many is measured (``pace``) within these; idle, as many as are
# worth the memory that they take.
_CHUNKS = {
    "cpu": ChunkLimits(least=8, most=256, idle=512),
    "cuda": ChunkLimits(least=64, most=2048, idle=4096),
}
_CACHE_SHARE = {"cpu": 0.25, "cuda": 0.8}  # of the machine's memory; of the GPU memory that is free beside the model
_KEPT_SHARE = 0.25  # of that, for answers that have ended, unless set
_MAX_LOGITS = 1 << 26  # of prompts that are scored: 256 MiB of float32, and their normalisers take as much again

_log = logging.getLogger(__name__)


class Frames(Protocol):
    """What the loop needs of ``metaclaw.training.channel.Channel``."""

    def receive(self, timeout_s: float | None = None) -> Frame | None: ...

    def send(self, frame: Frame) -> None: ...


class SamplerLoop:
    """Serves ``SamplerCommand`` frames until the process ends."""

    def __init__(
        self, base: LoadedBase, config: dict[str, Any], channel: Frames,
        *, check: Callable[[torch.device], None] = check_device, rest: Callable[[torch.device], None] = give_back,
    ) -> None:  # fmt: skip
        ready = base.ready
        slots = LoraSlots(base.model, base.device)
        self._channel = channel
        self._check, self._rest = partial(check, base.device), partial(rest, base.device)
        self._has_failed = False
        self._reader = RequestReader(
            Limits(vocab_size=ready.vocab_size, max_context=ready.max_context, end_tokens=ready.end_tokens),
            decode=_Text(base.path).decode,
            entropy=lambda: secrets.randbits(64),
        )
        self._decoder = Decoder(
            ForwardPass(base.model, slots, base.device),
            _row_limits(base, max_rows=config.get("max_concurrent", 32), kept_mb=config.get("prefix_cache_mb", -1)),
            replace(_CHUNKS["cpu" if base.device.type == "cpu" else "cuda"], scored=_MAX_LOGITS // ready.vocab_size),
            on_end=self._request_ended,
        )
        self._adapters = AdapterTable(
            slots, base_digest=ready.base_digest, max_rank=config.get("max_lora_rank", 64),
            on_free=self._decoder.forget_slot,
        )  # fmt: skip
        self._loads = AdapterLoads(ready.base_digest, self._adapters.put)

    def run(self) -> None:
        """Serve for ever; blocks on the channel while there is nothing to decode.

        Raises ``DeviceLostError``.
        """
        # A full collection over what torch and transformers have made takes as long as a step or two.
        gc.collect()
        gc.freeze()
        with torch.inference_mode():
            while True:
                self.turn()

    def turn(self) -> None:
        """Take the commands that have come, then make one step.

        Raises ``DeviceLostError``, once those whose requests failed are told.
        """
        is_idle = not self._decoder.is_busy and not self._loads.is_any_open
        frame = self._channel.receive(IDLE_S if is_idle else 0)
        if frame is None and is_idle:
            self._rest()
            frame = self._channel.receive(None)
        while frame is not None:
            self._handle(frame)
            frame = self._channel.receive(0)
        self._advance_loads()
        self._decoder.step()
        self._flush()
        if self._decoder.has_failed() or self._has_failed:
            self._has_failed = False
            self._check()

    def _handle(self, frame: Frame) -> None:
        try:
            self._obey(frame)
        except Exception as error:  # noqa: BLE001 - the job boundary: the caller is told, the loop goes on
            body = error_body(error)
            if not body["caller_fault"]:
                _log.exception("command %r failed", frame.get("op"))
                self._has_failed = True
            self._channel.send({"id": frame["id"], "error": body})

    def _obey(self, frame: Frame) -> None:
        match parse_command(frame):
            case Generate() as command:
                self._generate(frame["id"], command, frame.get("share", ""))
                return
            case LoadAdapter(adapter_id=adapter_id, directory=directory):
                self._adapters.claim(adapter_id)
                self._loads.start(frame["id"], adapter_id, Path(directory))
                return
            case UnloadAdapter(adapter_id=adapter_id):
                self._adapters.unload(adapter_id)
            case Cancel(target=target):
                self._decoder.cancel(target)
                self._flush()
            case _:
                raise InvalidRequestError(f"{frame['op']!r} is not a command of the sampler")
        self._channel.send({"id": frame["id"], "ok": {}})

    def _advance_loads(self) -> None:
        load = self._loads.advance(self._decoder.spare_s if self._decoder.is_busy else None)
        if load is None:
            return
        if load.error is not None and is_out_of_memory(load.error) and self._decoder.let_go():
            self._loads.again(load)
            return
        answer: Frame = {"ok": {}}
        if load.error is not None:
            answer = {"error": error_body(self._not_served(load.adapter_id, load.error))}
        self._channel.send({"id": load.frame_id, **answer})

    def _not_served(self, adapter_id: str, error: Exception) -> Exception:
        self._adapters.disclaim(adapter_id)
        if isinstance(error, CheckpointError):
            return CheckpointError(f"adapter {adapter_id!r} is not served: {error}")
        _log.error("loading an adapter failed", exc_info=error)  # its name may be words of a client
        self._has_failed = True
        return error

    def _generate(self, frame_id: int, command: Generate, share: str) -> None:
        slot = self._adapters.acquire(command.adapter_id)
        try:
            request = self._reader.read(frame_id, command, slot, share=share)
        except BaseException:
            self._adapters.release(command.adapter_id)
            raise
        self._decoder.add(request)

    def _request_ended(self, request: Request) -> None:
        self._adapters.release(request.adapter_id)

    def _flush(self) -> None:
        for frame in self._decoder.collect():
            self._channel.send(frame)


class _Text:
    """Tokens as text. The tokenizer is read when the first request with stop strings needs it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return AutoTokenizer.from_pretrained(self._folder, trust_remote_code=False, local_files_only=True)


def _row_limits(base: LoadedBase, *, max_rows: int, kept_mb: int) -> RowLimits:
    """How many rows and places there is memory for. ``kept_mb`` -1: a quarter of the places."""
    kind = "cpu" if base.device.type == "cpu" else "cuda"
    config = base.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    place_bytes = 2 * config.num_hidden_layers * heads * head_size * base.model.dtype.itemsize
    memory = (
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if kind == "cpu"
        else torch.cuda.mem_get_info(base.device)[0]
    )
    max_places = int(memory * _CACHE_SHARE[kind] / place_bytes)
    return RowLimits(
        max_rows=max_rows,
        max_places=max_places,
        kept_places=int(max_places * _KEPT_SHARE) if kept_mb < 0 else kept_mb * 2**20 // place_bytes,
        max_context=base.ready.max_context,
    )
