"""The sampler process: commands in, frames out, one thread that owns the model.

Owns the loop and what each command does; refuses to know how tokens are made. Invariants: commands are taken
between decode steps, in order of arrival; every command is answered; nothing that one command does ends the loop.
"""

# pyright: basic

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from metaclaw.errors import InvalidRequestError
from metaclaw.training.base_model import LoadedBase
from metaclaw.training.commands import Cancel, Generate, LoadAdapter, UnloadAdapter, parse_command
from metaclaw.training.failures import error_body
from metaclaw.training.samplers.adapter_table import AdapterTable
from metaclaw.training.samplers.decoder import Budget, Decoder
from metaclaw.training.samplers.forward import ForwardPass
from metaclaw.training.samplers.requests import Limits, Request, RequestReader
from metaclaw.training.samplers.slots import LoraSlots

Frame = dict[str, Any]

# Tokens of one prefill chunk while answers are running, which wait for it: about one decode step of a full batch on
# a CPU core. Idle, the chunk is as large as is worth the memory of its logits.
_PREFILL_TOKENS = {"cpu": 128, "cuda": 2048}
_PREFILL_TOKENS_IDLE = {"cpu": 512, "cuda": 4096}
_CACHE_SHARE = {"cpu": 0.25, "cuda": 0.8}  # of the machine's memory; of the GPU memory that is free beside the model

_log = logging.getLogger(__name__)


class Frames(Protocol):
    """What the loop needs of ``metaclaw.training.channel.Channel``."""

    def receive(self, timeout_s: float | None = None) -> Frame | None: ...

    def send(self, frame: Frame) -> None: ...


class SamplerLoop:
    """Serves ``SamplerCommand`` frames until the process ends."""

    def __init__(self, base: LoadedBase, config: dict[str, Any], channel: Frames) -> None:
        ready = base.ready
        slots = LoraSlots(base.model, base.device)
        self._channel = channel
        self._adapters = AdapterTable(slots, base_digest=ready.base_digest, max_rank=config.get("max_lora_rank", 64))
        self._reader = RequestReader(
            Limits(vocab_size=ready.vocab_size, max_context=ready.max_context, end_tokens=ready.end_tokens),
            decode=_Text(base.path).decode,
            entropy=lambda: secrets.randbits(64),
        )
        self._decoder = Decoder(
            ForwardPass(base.model, slots, base.device),
            _budget(base, max_rows=config.get("max_concurrent", 32)),
            on_end=self._request_ended,
        )

    def run(self) -> None:
        """Serve for ever; blocks on the channel while there is nothing to decode."""
        with torch.inference_mode():
            while True:
                self.turn()

    def turn(self) -> None:
        """Take the commands that have come, then make one step."""
        frame = self._channel.receive(0 if self._decoder.is_busy else None)
        while frame is not None:
            self._handle(frame)
            if frame.get("op") == LoadAdapter.op and self._decoder.is_busy:
                break  # reading an adapter takes the time of a step; running answers come between two of them
            frame = self._channel.receive(0)
        self._decoder.step()
        self._flush()

    def _handle(self, frame: Frame) -> None:
        try:
            self._obey(frame)
        except Exception as error:  # noqa: BLE001 - the job boundary: the caller is told, the loop goes on
            body = error_body(error)
            if not body["caller_fault"]:
                _log.exception("command %r failed", frame.get("op"))
            self._channel.send({"id": frame["id"], "error": body})

    def _obey(self, frame: Frame) -> None:
        match parse_command(frame):
            case Generate() as command:
                self._generate(frame["id"], command)
                return
            case LoadAdapter(adapter_id=adapter_id, directory=directory):
                self._adapters.load(adapter_id, Path(directory))
            case UnloadAdapter(adapter_id=adapter_id):
                self._adapters.unload(adapter_id)
            case Cancel(target=target):
                self._decoder.cancel(target)
                self._flush()
            case _:
                raise InvalidRequestError(f"{frame['op']!r} is not a command of the sampler")
        self._channel.send({"id": frame["id"], "ok": {}})

    def _generate(self, frame_id: int, command: Generate) -> None:
        slot = self._adapters.acquire(command.adapter_id)
        try:
            request = self._reader.read(frame_id, command, slot)
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


def _budget(base: LoadedBase, *, max_rows: int) -> Budget:
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
    return Budget(
        max_rows=max_rows,
        max_places=int(memory * _CACHE_SHARE[kind] / place_bytes),
        prefill_tokens=_PREFILL_TOKENS[kind],
        prefill_tokens_idle=_PREFILL_TOKENS_IDLE[kind],
    )
