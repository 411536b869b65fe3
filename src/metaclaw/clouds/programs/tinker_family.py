"""Tinker's SDK, and MinT's, which is an older one of the same names: run by the Python that has it.

Owns the calls of the SDK; refuses to know what is trained, and why. Invariant: telemetry is off and the command that
prints a credential is gone before the SDK is imported, and the key came by standard input alone.
"""

# The SDK is another interpreter's: nothing of it is known here.
# pyright: basic

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from metaclaw.clouds.programs.serving import Operation, SdkProblem, packed, serve, unpacked

_CONFIGURED = ("TINKER", "MINT")


def main() -> None:
    """Serve the SDK that the first frame names."""
    serve(_make, _kind_of)


def _make(settings: dict[str, Any]) -> Mapping[str, Operation]:
    for name in [name for name in os.environ if name.startswith(_CONFIGURED)]:
        del os.environ[name]
    os.environ["TINKER_TELEMETRY"] = "0"
    # It takes torch along where that is installed, and needs it for nothing that is asked here.
    sys.modules["torch"] = None  # type: ignore[assignment]
    module = settings["module"]
    if module == "mint":
        # It reads these on import alone; the plain constructor's arguments go round what it adds.
        os.environ["MINT_API_KEY"] = settings["api_key"]
        if settings["base_url"]:
            os.environ["MINT_BASE_URL"] = settings["base_url"]
        own: dict[str, Any] = {}
    else:
        own = {"api_key": settings["api_key"], "base_url": settings["base_url"] or None}
    sdk = Sdk(importlib.import_module(module), importlib.import_module("numpy"), own)
    return {
        "models": sdk.models, "open": sdk.open, "passes": sdk.passes, "optim_step": sdk.optim_step, "save": sdk.save,
        "close": sdk.close, "saved_as": sdk.saved_as, "delete": sdk.delete, "sample": sdk.sample, "score": sdk.score,
    }  # fmt: skip


def _kind_of(error: Exception) -> str:
    name = type(error).__name__
    if name in ("AuthenticationError", "PermissionDeniedError"):
        return "key"
    if name == "NotFoundError":
        return "absent"
    if name == "RequestFailedError" and getattr(getattr(error, "category", None), "value", "") == "user":
        return "data"
    return "failed"


class Sdk:
    """Runs by number, and a sampling client for each set of weights that was asked for."""

    def __init__(self, tinker: Any, numpy: Any, settings: dict[str, Any]) -> None:
        self._tinker = tinker
        self._numpy = numpy
        self._settings = settings
        self._lock = threading.Lock()
        self._services: dict[int, Any] = {}  # a session each, so that ending one frees what it holds
        self._runs: dict[int, Any] = {}
        self._shared: Any = None
        self._samplers: dict[str, Any] = {}

    def models(self) -> dict[str, Any]:
        answer = self._service().get_server_capabilities()
        answer = answer.result() if hasattr(answer, "result") else answer
        found = [(each.model_name, getattr(each, "max_context_length", None)) for each in answer.supported_models]
        return {"models": [{"name": name, "max_context": context} for name, context in found if name]}

    def open(self, state_path: str | None, base_model: str, rank: int) -> dict[str, Any]:
        service = self._tinker.ServiceClient(**self._settings)
        if state_path is None:
            # Not the output layer: where embeddings are tied, that would change the input layer too.
            run = _done(service.create_lora_training_client(base_model, rank=rank, train_unembed=False))
        else:
            run = _done(service.create_training_client_from_state_with_optimizer(state_path))
        with self._lock:
            number = len(self._runs) + 1
            self._runs[number], self._services[number] = run, service
        return {"run": number, "id": run.model_id, "base_model": run.get_info().model_data.model_name or base_model}

    def passes(
        self, run: int, loss: str, config: dict[str, float], data: list[dict[str, str]], forward_only: bool
    ) -> dict[str, Any]:
        client = self._runs[run]
        datums = [self._datum(each) for each in data]
        submit = client.forward if forward_only else client.forward_backward
        output = submit(datums, loss, config).result()
        logprobs = [packed(record["logprobs"].to_numpy().astype("f4"), "f") for record in output.loss_fn_outputs]
        return {"logprobs": logprobs, "metrics": dict(output.metrics)}

    def optim_step(self, run: int, learning_rate: float, grad_clip_norm: float) -> dict[str, Any]:
        params = self._tinker.AdamParams(learning_rate=learning_rate, grad_clip_norm=grad_clip_norm)
        answer = self._runs[run].optim_step(params).result()
        return {"metrics": dict(getattr(answer, "metrics", None) or {})}

    def save(self, run: int, name: str) -> dict[str, Any]:
        client = self._runs[run]
        state = client.save_state(name).result().path
        return {"state_path": state, "sampler_path": client.save_weights_for_sampler(name).result().path}

    def close(self, run: int) -> dict[str, Any]:
        with self._lock:
            self._runs[run] = None
            service = self._services.pop(run, None)
        if hasattr(service, "close"):  # an older SDK has no such call: its session is given up when its heart stops
            service.close("success").result(5)
        return {}

    def saved_as(self, name: str, run: str) -> dict[str, Any]:
        client = self._service().create_rest_client()
        try:
            listed = client.list_checkpoints(run).result().checkpoints
        except self._tinker.NotFoundError:
            listed = []
        return {"paths": [one.tinker_path for one in listed if one.tinker_path.rpartition("/")[2] == name]}

    def delete(self, paths: list[str]) -> dict[str, Any]:
        client = self._service().create_rest_client()
        for path in paths:
            try:
                client.delete_checkpoint_from_tinker_path(path).result()
            except self._tinker.NotFoundError:
                continue
        return {}

    def sample(
        self,
        model_path: str | None,
        base_model: str,
        prompt: str,
        num_samples: int,
        max_tokens: int,
        temperature: float,
        top_p: float,
        top_k: int,
        seed: int | None,
        stop: list[Any] | None,
    ) -> dict[str, Any]:
        wanted = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "top_k": top_k}
        wanted |= {} if seed is None else {"seed": seed}
        wanted |= {} if stop is None else {"stop": stop}
        sampler = self._sampler(model_path, base_model)
        answer = sampler.sample(self._input(prompt), num_samples, self._tinker.SamplingParams(**wanted)).result()
        sequences = [
            {
                "tokens": packed(sequence.tokens, "i"),
                "logprobs": packed(sequence.logprobs or [float("nan")] * len(sequence.tokens), "f"),
                "stop_reason": str(getattr(sequence.stop_reason, "value", sequence.stop_reason)),
            }
            for sequence in answer.sequences
        ]
        return {"sequences": sequences}

    def score(self, model_path: str | None, base_model: str, tokens: str) -> dict[str, Any]:
        scores = self._sampler(model_path, base_model).compute_logprobs(self._input(tokens)).result()
        return {"logprobs": packed([float("nan") if each is None else each for each in scores], "f")}

    def _service(self) -> Any:
        with self._lock:
            if self._shared is None:
                self._shared = self._tinker.ServiceClient(**self._settings)
            return self._shared

    def _sampler(self, model_path: str | None, base_model: str) -> Any:
        service = self._service()
        key = model_path or ""
        if key not in self._samplers:
            how = {"base_model": base_model} if model_path is None else {"model_path": model_path}
            self._samplers[key] = _done(service.create_sampling_client(**how))
        return self._samplers[key]

    def _input(self, tokens: str) -> Any:
        return self._tinker.ModelInput.from_ints(unpacked(tokens, "i"))

    def _datum(self, given: dict[str, str]) -> Any:
        np = self._numpy
        inputs: dict[str, Any] = {"target_tokens": np.asarray(unpacked(given["targets"], "i"), np.int64)}
        for name in ("logprobs", "advantages"):
            inputs[name] = np.asarray(unpacked(given[name], "f"), np.float32)
        tensors = {name: self._tinker.TensorData.from_numpy(array) for name, array in inputs.items()}
        return self._tinker.Datum(model_input=self._input(given["tokens"]), loss_fn_inputs=tensors)


def _done(made: Any) -> Any:
    """The client itself: newer SDKs give a future of it."""
    result = getattr(made, "result", None)
    client = made if result is None else result()
    if client is None:
        raise SdkProblem("failed", "the SDK made no client")
    return client


if __name__ == "__main__":
    main()
