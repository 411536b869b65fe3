"""Weaver's SDK: run by the Python that has it.

Owns the calls of the SDK; refuses to know what is trained, and why. Invariant: traces are off and the key came by
standard input alone; the SDK is never asked for anything that would make it load a tokenizer, which it does with
somebody else's code.

Weaver's own policy losses say nothing about how they add up, so ours are worked out here from its log-probabilities,
and it is sent their gradients.
"""

# The SDK is another interpreter's: nothing of it is known here.
# pyright: basic

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from metaclaw.clouds.programs.serving import Operation, SdkProblem, packed, serve, unpacked

_PATH = "weaver://"
_SHORTEST_TTL_S = 3600  # it has no call that deletes; what expires soon comes next to it
_FOR_EVER = None
_SAMPLER = "-sampler"  # a name is used once


def main() -> None:
    """Serve the SDK."""
    serve(_make, _kind_of)


def _make(settings: dict[str, Any]) -> Mapping[str, Operation]:
    for name in [name for name in os.environ if name.startswith("WEAVER")]:
        del os.environ[name]
    os.environ["OTEL_SDK_DISABLED"] = "true"
    weaver = importlib.import_module("weaver")
    own = {"api_key": settings["api_key"], "base_url": settings["base_url"] or None}
    sdk = Sdk(weaver, importlib.import_module("torch"), own)
    return {
        "models": sdk.models, "open": sdk.open, "passes": sdk.passes, "optim_step": sdk.optim_step, "save": sdk.save,
        "close": sdk.close, "saved_as": sdk.saved_as, "delete": sdk.delete, "sample": sdk.sample, "score": sdk.score,
    }  # fmt: skip


def _kind_of(error: Exception) -> str:
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        return "key"
    if status == 404:
        return "absent"
    is_refused = status in (400, 413, 422) or (
        type(error).__name__ == "WeaverOperationError" and str(getattr(error, "code", "")).startswith("invalid")
    )
    return "data" if is_refused else "failed"


class Sdk:
    """Runs by number, each in a session of its own, and one session for all sampling."""

    def __init__(self, weaver: Any, torch: Any, settings: dict[str, Any]) -> None:
        self._weaver = weaver
        self._torch = torch
        self._settings = settings
        self._lock = threading.Lock()
        self._runs: dict[int, Any] = {}
        self._services: dict[int, Any] = {}
        self._shared: Any = None
        self._samplers: dict[str, Any] = {}

    def models(self) -> dict[str, Any]:
        return {"models": [{"name": name, "max_context": None} for name in self._service().list_supported_models()]}

    def open(self, state_path: str | None, base_model: str, rank: int) -> dict[str, Any]:
        service = self._connected()
        # Not the output layer: where embeddings are tied, that would change the input layer too.
        lora = self._weaver.types.LoraConfig(rank=rank, train_unembed=False)
        run = service.create_model(base_model=base_model, lora_config=lora)
        if state_path is not None:
            run.load_state_with_optimizer(state_path)
        with self._lock:
            number = len(self._runs) + 1
            self._runs[number], self._services[number] = run, service
        return {"run": number, "id": run.model_id, "base_model": run.base_model}

    def passes(
        self, run: int, loss: str, config: dict[str, float], data: list[dict[str, str]], forward_only: bool
    ) -> dict[str, Any]:
        client, datums = self._runs[run], [self._datum(each) for each in data]
        if forward_only:
            outputs = self._weaver.align_training_outputs(datums, client.forward(datums, "forward_logprob"))
            return {"logprobs": [packed(_numbers(each["logprobs"]), "f") for each in outputs], "metrics": {}}
        seen: list[Any] = []

        def total(given: Sequence[Any], logprobs: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
            seen.extend(each.detach() for each in logprobs)
            of_loss = _LOSSES[loss]
            parts = [
                of_loss(self._torch, own, each.loss_fn_inputs["logprobs"], each.loss_fn_inputs["advantages"], config)
                for own, each in zip(logprobs, given, strict=True)
            ]
            return self._torch.stack(parts).sum(), {}

        if loss not in _LOSSES:
            raise SdkProblem("failed", f"the loss {loss!r} is not one of {', '.join(_LOSSES)}")
        answer = client.forward_backward_custom(datums, total)
        return {
            "logprobs": [packed(each.tolist(), "f") for each in seen],
            "metrics": {"loss:sum": float(answer["loss"])},
        }

    def optim_step(self, run: int, learning_rate: float, grad_clip_norm: float) -> dict[str, Any]:
        # Advantages are divided by the tokens of the whole update, so gradients are tiny: its eps of 1e-8 is too much.
        params = self._weaver.types.AdamParams(
            learning_rate=learning_rate, eps=1e-12, weight_decay=0.0, grad_clip_norm=grad_clip_norm
        )
        answer = self._runs[run].optim_step(params)
        told = answer if isinstance(answer, dict) else {}
        told = told.get("metrics") or (told.get("result") or {}).get("metrics") or {}
        return {"metrics": {name: value for name, value in told.items() if isinstance(value, (int, float))}}

    def save(self, run: int, name: str) -> dict[str, Any]:
        client = self._runs[run]
        state = client.save_state(name=name, checkpoint_type="weight_and_optimizer", ttl_seconds=_FOR_EVER)
        return {
            "state_path": state.path,
            "sampler_path": client.save_weights_for_sampler(name=f"{name}{_SAMPLER}", ttl_seconds=_FOR_EVER),
        }

    def close(self, run: int) -> dict[str, Any]:
        with self._lock:
            self._runs[run] = None
            service = self._services.pop(run, None)
        if service is not None:
            # Not its own close, which waits for its heart to beat once more.
            service._heartbeat_stop_event.set()
            for model in service._created_models:
                service.terminate_model(model)
        return {}

    def saved_as(self, name: str, run: str) -> dict[str, Any]:
        try:
            listed = self._service().http.get(f"/api/v1/models/{run}/checkpoints")
        except self._weaver.WeaverAPIError as error:
            if error.status_code != 404:
                raise
            listed = {}
        paths = [each["path"] for each in (listed or {}).get("items", [])]
        return {"paths": [path for path in paths if path.rpartition("/")[2] in (name, name + _SAMPLER)]}

    def delete(self, paths: list[str]) -> dict[str, Any]:
        service = self._service()
        for path in paths:
            model = path.removeprefix(_PATH).partition("/")[0]
            try:
                service.http.patch(
                    f"/api/v1/models/{model}/checkpoints/ttl", json={"path": path, "ttl_seconds": _SHORTEST_TTL_S}
                )
            except self._weaver.WeaverAPIError as error:
                if error.status_code != 404:
                    raise
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
        params = self._weaver.types.SamplingParams(
            max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, stop=stop or []
        )
        # Not `wait`: the SDK would fetch a tokenizer to write the text, which nobody needs.
        handle = self._sampler(model_path, base_model).sample(
            prompt=self._input(prompt), sampling_params=params, num_samples=num_samples, wait=False
        )
        answer = handle.result()
        found = (answer.get("result") or answer).get("sequences")
        if not found:
            raise SdkProblem("failed", "it answered no sequence of tokens")
        return {"sequences": [_sequence(each) for each in found]}

    def score(self, model_path: str | None, base_model: str, tokens: str) -> dict[str, Any]:
        scores = self._sampler(model_path, base_model).compute_logprobs(prompt=self._input(tokens))
        return {"logprobs": packed([float("nan") if each is None else each for each in scores], "f")}

    def _connected(self) -> Any:
        service = self._weaver.ServiceClient(**self._settings)
        service.connect()
        return service

    def _service(self) -> Any:
        with self._lock:
            if self._shared is None:
                self._shared = self._connected()
            return self._shared

    def _sampler(self, model_path: str | None, base_model: str) -> Any:
        service, key = self._service(), model_path or ""
        if key not in self._samplers:
            self._samplers[key] = service.create_sampling_client(base_model=base_model, model_path=model_path)
        return self._samplers[key]

    def _input(self, tokens: str) -> Any:
        return self._weaver.types.ModelInput.from_ints(unpacked(tokens, "i"))

    def _datum(self, given: dict[str, str]) -> Any:
        inputs = {"target_tokens": unpacked(given["targets"], "i")}
        inputs |= {name: unpacked(given[name], "f") for name in ("logprobs", "advantages")}
        return self._weaver.types.Datum(model_input=self._input(given["tokens"]), loss_fn_inputs=inputs)


def _sequence(each: dict[str, Any]) -> dict[str, Any]:
    tokens = each["tokens"]
    reason = "length" if each.get("stop_reason") == "length" else "stop"
    logprobs = _numbers(each.get("logprobs") or [float("nan")] * len(tokens))
    return {"tokens": packed(tokens, "i"), "logprobs": packed(logprobs, "f"), "stop_reason": reason}


def _numbers(values: Any) -> list[float]:
    if isinstance(values, dict):
        values = values["data"]
    return values.tolist() if hasattr(values, "tolist") else values


def _importance_sampling(torch: Any, own: Any, drawn: Any, advantages: Any, config: dict[str, float]) -> Any:
    return -(torch.exp(own - drawn) * advantages).sum()


def _ppo(torch: Any, own: Any, drawn: Any, advantages: Any, config: dict[str, float]) -> Any:
    ratio = torch.exp(own - drawn)
    bounded = ratio.clamp(config["clip_low_threshold"], config["clip_high_threshold"])
    return -torch.minimum(ratio * advantages, bounded * advantages).sum()


def _cispo(torch: Any, own: Any, drawn: Any, advantages: Any, config: dict[str, float]) -> Any:
    ratio = torch.exp(own - drawn).detach()
    return -(ratio.clamp(config["clip_low_threshold"], config["clip_high_threshold"]) * own * advantages).sum()


# Sums over tokens, as docs/losses.md has them.
_LOSSES: dict[str, Callable[..., Any]] = {"importance_sampling": _importance_sampling, "ppo": _ppo, "cispo": _cispo}

if __name__ == "__main__":
    main()
