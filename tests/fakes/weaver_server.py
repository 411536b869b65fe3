"""Weaver's HTTP API as its SDK 1.19 speaks it: routes, fields and answers were read off that SDK, which talks to it.

The model is the smallest that learns, a table of logits over the tokens. What the real one does in an hour, forgetting
weights that are to expire, happens here at once.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from tests.fakes.trainer import log_softmax

API_KEY = "sk-of-weaver"
BASE_MODEL = "Qwen/Qwen3-4B"
_END = 2


class Refusal(Exception):
    """An answer with an error's status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(slots=True)
class Model:
    logits_V: np.ndarray
    gradient_V: np.ndarray


@dataclass(slots=True)
class WeaverCloud:
    """All that the server keeps. ``asked`` are the requests, as ``METHOD path``, and their bodies."""

    vocabulary: int = 16
    models: dict[str, Model] = field(default_factory=dict)
    saved: dict[str, np.ndarray] = field(default_factory=dict)
    samplers: dict[str, np.ndarray] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""
    answers: threading.Event = field(default_factory=threading.Event)  # cleared, it takes requests and says nothing

    def __post_init__(self) -> None:
        self.answers.set()

    def base(self) -> np.ndarray:
        return np.random.default_rng(0).normal(size=self.vocabulary)

    def answer(self, method: str, path: str, body: Any) -> Any:  # noqa: C901 - a table of routes
        match method, path.removeprefix("/api/v1/").split("/"):
            case "POST", ["sessions"]:
                return {"id": "session-1"}
            case "POST", ["sessions", _, "heartbeat"]:
                return {}
            case "POST", ["sessions", _, "models"]:
                return self._create_model(body)
            case "GET", ["supported-models"]:
                return {"items": [{"name": BASE_MODEL, "status": "available"}]}
            case "POST", ["models", name, "load"]:
                self._model(name).logits_V = self._weights(body["path"]).copy()
                return _done({})
            case "GET", ["models", name, "checkpoints"]:
                return {"items": [{"path": path} for path in self.saved if path.startswith(f"weaver://{name}/")]}
            case "POST", ["models", name, "checkpoints"]:
                return _done(self._save(name, body))
            case "POST", ["models", name, "export-sampler"]:
                path = f"weaver://{name}/sampler/{body['path']}"
                self.saved[path] = self._model(name).logits_V.copy()
                return _done({"model_path": path, "expires_at": body.get("ttl_seconds")})
            case "PATCH", ["models", _, "checkpoints", "ttl"]:
                self._weights(body["path"])
                del self.saved[body["path"]]
                return {}
            case "POST", ["models", name, "terminate"]:
                self.models.pop(name, None)
                return {}
            case "POST", ["models", name, "forward-passes"]:
                return _done(self._forward(name, body["payload"]["forward_input"]))
            case "POST", ["models", name, "forward-backward-passes"]:
                return _done(self._backward(name, body["payload"]["forward_backward_input"]))
            case "POST", ["models", name, "optimizer-steps"]:
                return _done(self._step(name, body["payload"]["adam_params"]))
            case "POST", ["sessions", _, "sampling-sessions"]:
                return self._sampling_session(body)
            case "POST", ["sampling-sessions", name, "samples"]:
                return _done({"result": self._sample(name, body)})
            case "POST", ["sampling-sessions", name, "logprobs"]:
                return _done({"result": {"prompt_logprobs": self._score(name, body["prompt"])}})
        raise Refusal(404, "not_found", f"{method} {path}")

    def _create_model(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["base_model"] != BASE_MODEL:
            raise Refusal(400, "invalid_model", f"{body['base_model']} is not served")
        name = f"model-{len(self.models) + len(self.saved) + 1}"
        self.models[name] = Model(self.base(), np.zeros(self.vocabulary))
        return {"id": name, "base_model": body["base_model"], "tokenizer_path": "unused"}

    def _model(self, name: str) -> Model:
        if name not in self.models:
            raise Refusal(404, "not_found", f"no model {name}")
        return self.models[name]

    def _weights(self, path: str) -> np.ndarray:
        if path not in self.saved:
            raise Refusal(404, "not_found", f"no checkpoint {path}")
        return self.saved[path]

    def _save(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        assert body["type"] == "weight_and_optimizer"
        path = f"weaver://{name}/checkpoints/{body['name']}"
        self.saved[path] = self._model(name).logits_V.copy()
        return {"id": path, "path": path, "name": body["name"], "type": body["type"], "status": "completed"}

    def _forward(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["loss_fn"] == "forward_logprob"
        logprobs_V = log_softmax(self._model(name).logits_V, 1.0)
        return {
            "loss_fn_outputs": [
                {"logprobs": {"data": logprobs_V[_targets(each)].tolist(), "dtype": "float32"}}
                for each in asked["data"]
            ]
        }

    def _backward(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        assert asked["loss_fn"] == "surrogate"
        model = self._model(name)
        probabilities_V = np.exp(log_softmax(model.logits_V, 1.0))
        for each in asked["data"]:
            weights = each["loss_fn_inputs"]["surrogate_weights"]["data"]
            for target, weight in zip(_targets(each), weights, strict=True):
                model.gradient_V += weight * (np.eye(self.vocabulary)[target] - probabilities_V)
        return {"loss_fn_outputs": [{} for _ in asked["data"]]}

    def _step(self, name: str, adam: dict[str, float]) -> dict[str, Any]:
        model = self._model(name)
        norm = float(np.linalg.norm(model.gradient_V))
        model.logits_V = model.logits_V - adam["learning_rate"] * np.sign(model.gradient_V)
        model.gradient_V = np.zeros(self.vocabulary)
        return {"metrics": {"grad_norm": norm}}

    def _sampling_session(self, body: dict[str, Any]) -> dict[str, Any]:
        path = body["model_path"]
        name = f"sampling-{len(self.samplers) + 1}"
        self.samplers[name] = self.base() if path is None else self._weights(path)
        return {"id": name, "tokenizer_path": "unused"}

    def _sample(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        params = body["sampling_params"]
        logprobs_V = log_softmax(self.samplers[name], 1.0)
        draw = np.random.default_rng(params.get("seed") or len(self.asked))
        sequences = []
        for _ in range(body["num_samples"]):
            tokens = list[int]()
            while len(tokens) < params["max_tokens"] and (not tokens or tokens[-1] not in _stops(params)):
                tokens.append(int(draw.choice(self.vocabulary, p=np.exp(logprobs_V))))
            reason = "stop" if tokens[-1] in _stops(params) else "length"
            sequences.append({"tokens": tokens, "logprobs": logprobs_V[tokens].tolist(), "stop_reason": reason})
        return {"sequences": sequences}

    def _score(self, name: str, prompt: dict[str, Any]) -> list[float | None]:
        tokens = prompt["chunks"][0]["tokens"]
        return [None, *log_softmax(self.samplers[name], 1.0)[tokens[1:]].tolist()]


def _targets(datum: dict[str, Any]) -> list[int]:
    return [int(token) for token in datum["loss_fn_inputs"]["target_tokens"]["data"]]


def _stops(params: dict[str, Any]) -> list[int]:
    return params.get("stop_token_ids") or [_END]


def _done(response: Any) -> dict[str, Any]:
    return {"id": "operation-1", "status": "done", "response": response}


@contextmanager
def weaver_cloud(**changes: Any) -> Iterator[WeaverCloud]:
    """Serve a cloud of one's own."""
    cloud = WeaverCloud(**changes)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            path = self.path.partition("?")[0]
            cloud.asked.append((f"{self.command} {path}", body))
            cloud.headers.append(dict(self.headers))
            cloud.answers.wait()
            try:
                if self.headers.get("X-WEAVER-API-KEY") != API_KEY:
                    raise Refusal(401, "unauthorized", "unknown key")
                status, answer = 200, cloud.answer(self.command, path, body)
            except Refusal as refusal:
                status = refusal.status
                answer = {"error": {"code": refusal.code, "message": str(refusal), "retryable": False}}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield cloud
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
