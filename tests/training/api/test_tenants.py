"""What one key sees of another's: nothing, on no route.

Every route of the application has a verdict here; a new one without fails ``test_every_route_has_a_verdict``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from dataclasses import dataclass
from types import SimpleNamespace

import httpx2
import pytest

from metaclaw.training.api.database import connect
from metaclaw.training.api.keys import KeyTable
from metaclaw.training.api.tenants import Quotas
from tests.training.api.test_tinker_wire import forward_backward, make_model, retrieve, step

# What each route is asked about somebody else's things. ``{}`` stands for their session; PLAIN has nothing to ask.
PLAIN = None
RUN, SESSION, SAMPLER = "{s}:train:0", "{s}", "{s}:sample:0"
CHAT = {"messages": [{"role": "user", "content": "a"}], "model": f"tinker://{RUN}/sampler_weights/s", "max_tokens": 1}
TEXT = {"prompt": "a", "model": f"tinker://{RUN}/sampler_weights/s", "max_tokens": 1}
PROMPT = {"chunks": [{"type": "encoded_text", "tokens": [1, 2]}]}
SAMPLE = {"prompt": PROMPT, "num_samples": 1, "sampling_params": {"max_tokens": 1}}
CHECKPOINT = "/api/v1/training_runs/{model_id}/checkpoints/{kind}/{name}"
VERDICTS = {
    ("GET", "/healthz"): PLAIN,
    ("GET", "/readyz"): PLAIN,
    ("GET", "/metrics"): PLAIN,
    ("GET", "/downloads/{model_id}/{kind}/{name}/{file}"): PLAIN,  # needs a signature
    ("HEAD", "/downloads/{model_id}/{kind}/{name}/{file}"): PLAIN,
    ("GET", "/api/v1/healthz"): PLAIN,
    ("POST", "/api/v1/client/config"): {},
    ("POST", "/api/v1/client/dynamic_config"): {},
    ("POST", "/api/v1/telemetry"): {},
    ("GET", "/api/v1/get_server_capabilities"): PLAIN,
    ("POST", "/api/v1/create_session"): {},
    ("POST", "/api/v1/session_heartbeat"): {"session_id": SESSION},
    ("POST", "/api/v1/sessions/{session_id}/finish"): {},
    ("GET", "/api/v1/sessions/{session_id}"): PLAIN,
    ("GET", "/api/v1/sessions"): PLAIN,
    ("POST", "/api/v1/sessions/search"): {"session_id": SESSION},
    ("POST", "/api/v1/retrieve_future"): {"request_id": "{future}"},
    ("POST", "/api/v1/cancel_future"): {"request_id": "{future}"},
    ("POST", "/api/v1/create_model"): {
        "session_id": SESSION, "model_seq_id": 0, "base_model": "tiny-qwen3", "lora_config": {"rank": 2},
    },
    ("POST", "/api/v1/get_info"): {"model_id": RUN},
    ("POST", "/api/v1/unload_model"): {"model_id": RUN},
    ("POST", "/api/v1/forward_backward"): "pass",
    ("POST", "/api/v1/forward"): "pass",
    ("POST", "/api/v1/optim_step"): {"model_id": RUN, "seq_id": 90, "adam_params": {}},
    ("POST", "/api/v1/save_weights"): {"model_id": RUN, "seq_id": 90, "path": "x"},
    ("POST", "/api/v1/save_weights_external"): {"model_id": RUN, "seq_id": 90, "path": "x"},
    ("POST", "/api/v1/save_weights_for_sampler"): {"model_id": RUN, "seq_id": 90, "path": "x"},
    ("POST", "/api/v1/load_weights"): {
        "model_id": RUN, "seq_id": 90, "path": f"tinker://{RUN}/weights/w", "optimizer": True,
    },
    ("POST", "/api/v1/create_sampling_session"): {
        "session_id": SESSION, "sampling_session_seq_id": 7, "base_model": "tiny-qwen3",
    },
    ("GET", "/api/v1/samplers/{sampler_id}"): PLAIN,
    ("POST", "/api/v1/asample"): {**SAMPLE, "sampling_session_id": SAMPLER, "seq_id": 90},
    ("POST", "/api/v1/weights_info"): {"tinker_path": f"tinker://{RUN}/weights/w"},
    ("GET", "/api/v1/training_runs"): PLAIN,
    ("GET", "/api/v1/training_runs/{model_id}"): PLAIN,
    ("GET", "/api/v1/training_runs/{model_id}/checkpoints"): PLAIN,
    ("GET", "/api/v1/checkpoints"): PLAIN,
    ("POST", "/api/v1/checkpoints/import"): {},
    ("DELETE", CHECKPOINT): PLAIN,
    ("POST", f"{CHECKPOINT}/publish"): {},
    ("DELETE", f"{CHECKPOINT}/publish"): PLAIN,
    ("PUT", f"{CHECKPOINT}/ttl"): {"ttl_seconds": 3600},
    ("GET", f"{CHECKPOINT}/archive"): PLAIN,
    ("GET", f"{CHECKPOINT}/external_weights_urls"): PLAIN,
    ("GET", "/v1/models"): PLAIN,
    ("GET", "/v1/models/{name:path}"): PLAIN,
    ("POST", "/v1/chat/completions"): CHAT,
    ("POST", "/v1/completions"): TEXT,
    ("POST", "/v1/token_counts"): {},
    ("POST", "/api/v1/auth/token"): {},
    ("POST", "/api/v1/create_custom_loss"): {},
    ("POST", "/api/v1/copy_weights"): {"source_path": f"tinker://{RUN}/weights/w"},
    ("POST", "/api/v1/join_sampling_session"): {"sampling_session_id": SAMPLER},
    ("POST", "/api/v1/retrieve_futures"): {"target": {"sampling_session_id": SAMPLER}},
    ("PUT", "/api/v1/sessions/{session_id}/project"): {},
    ("GET", "/api/v1/sessions/{session_id}/trace_export"): PLAIN,
    ("GET", "/api/v1/audit"): PLAIN,
    ("GET", "/api/v1/billing/usage/events"): PLAIN,
    ("GET", "/api/v1/billing/usage/checkpoints/current"): PLAIN,
    # The hub knows the base model alone.
    ("GET", "/api/models/{repo:path}"): PLAIN,
    ("GET", "/api/models/{repo:path}/revision/{revision}"): PLAIN,
    ("GET", "/api/models/{repo:path}/tree/{revision}"): PLAIN,
    ("GET", "/api/models/{repo:path}/tree/{revision}/{folder:path}"): PLAIN,
    ("GET", "/{repo:path}/resolve/{revision}/{file:path}"): PLAIN,
    ("HEAD", "/{repo:path}/resolve/{revision}/{file:path}"): PLAIN,
}  # fmt: skip
NAMED = {"model_id": RUN, "kind": "weights", "name": "w", "session_id": SESSION, "sampler_id": SAMPLER, "file": "x"}


@dataclass
class Key:
    secret: str
    key_id: str

    def http(self, server):
        return httpx2.Client(base_url=server.url, headers={"X-API-Key": self.secret}, timeout=60)


@pytest.fixture(scope="module")
def new_key(server):
    connection = connect(server.data_dir / "server.db")
    table = KeyTable(connection)

    def make(**quotas):
        secret, key = table.create(uuid.uuid4().hex, is_admin=False, quotas=Quotas(**quotas), now=1.0)
        return Key(secret, key.tenant.key_id)

    make.table = table
    yield make
    connection.close()


@pytest.fixture(scope="module")
def theirs(server, new_key):
    """Somebody with one of everything."""
    with new_key().http(server) as http:
        made = http.post("/api/v1/create_session", json={"display_name": "Berthas-secret"}).json()["session_id"]
        model_id = make_model(http, made)
        first = step(http, model_id, 1)
        for seq_id, (route, name) in enumerate(
            (("save_weights", "w"), ("save_weights_for_sampler", "s"), ("save_weights_external", "e")), 2
        ):
            body = {"model_id": model_id, "seq_id": seq_id, "path": name}
            assert "path" in retrieve(http, http.post(f"/api/v1/{route}", json=body)).json()
        body = {"session_id": made, "sampling_session_seq_id": 0, "base_model": "tiny-qwen3"}
        assert http.post("/api/v1/create_sampling_session", json=body).status_code == 200
        yield SimpleNamespace(s=made, future=first.json()["request_id"], http=http)


def filled(value, ids):
    if isinstance(value, str):
        return value.replace("{s}", ids.s).replace("{future}", ids.future)
    if isinstance(value, dict):
        return {key: filled(each, ids) for key, each in value.items()}
    return [filled(each, ids) for each in value] if isinstance(value, list) else value


def ask(http, route, ids):
    """The answer of ``route`` about the things of ``ids``."""
    method, path = route
    if path.startswith("/v1/models/"):
        path = f"/v1/models/tinker://{RUN}/sampler_weights/s"
    if path.endswith("external_weights_urls"):
        path = path.replace("{kind}", "external_weights").replace("{name}", "e")
    for name, value in NAMED.items():
        path = path.replace("{" + name + "}", value)
    body = VERDICTS[route]
    if body == "pass":
        content = forward_backward(filled(RUN, ids), 90)
        return http.post(path, content=content, headers={"Content-Type": "application/x-protobuf"})
    return http.request(method, filled(path, ids), json=filled(body, ids))


def said(answer, ids):
    """What an answer says, without what the question said."""
    text = answer.text.replace(ids.s, "S").replace(ids.future, "F")
    headers = {key: value for key, value in answer.headers.items() if key not in ("date", "content-length")}
    return answer.status_code, text, headers


CHANGES_EACH_TIME = {("POST", "/api/v1/create_session"), ("POST", "/api/v1/auth/token"), ("GET", "/readyz")}


@pytest.mark.parametrize("route", sorted(VERDICTS), ids=" ".join)
def test_what_is_somebody_elses_is_answered_as_what_never_was(server, new_key, theirs, route):
    """PITFALLS B8: sessions, scopes and queues were everybody's."""
    never = SimpleNamespace(s=str(uuid.uuid4()), future=uuid.uuid4().hex)
    with new_key().http(server) as http:
        answer, about_nothing = ask(http, route, theirs), ask(http, route, never)
        if route not in CHANGES_EACH_TIME:
            assert said(answer, theirs) == said(about_nothing, never)
        everything = f"{answer.text} {dict(answer.headers)}"
        assert "Berthas-secret" not in everything
        assert about_nothing.status_code != 403 or route[1] in ("/metrics",) or "/downloads/" in route[1]
        if "{" not in route[1] and VERDICTS[route] in (None, {}):
            assert theirs.s not in everything  # nothing of theirs was named in the question
    assert theirs.http.get(f"/api/v1/sessions/{theirs.s}").json()["training_run_ids"] == [f"{theirs.s}:train:0"]


TOLD_TO_EVERYBODY = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/api/v1/healthz")}


@pytest.mark.parametrize("route", sorted(VERDICTS.keys() - TOLD_TO_EVERYBODY), ids=" ".join)
@pytest.mark.parametrize("headers", [{}, {"X-API-Key": "wrong"}], ids=["no key", "a wrong key"])
def test_no_route_answers_who_has_no_key(server, theirs, route, headers):
    """PITFALLS S1: an open port relayed whatever came; B8: a wrong key was answered with 500."""
    with httpx2.Client(base_url=server.url, headers=headers, timeout=60) as http:
        needs = 403 if route[1].startswith("/downloads/") else 401  # a signature in its place
        assert ask(http, route, theirs).status_code == needs


def test_nothing_that_was_tried_touched_what_is_theirs(theirs):
    listed = theirs.http.get("/api/v1/checkpoints").json()["checkpoints"]
    expected = {"weights/w", "sampler_weights/s", "external_weights/e"}
    assert {each["checkpoint_id"] for each in listed} == expected
    assert [(each["public"], each.get("expires_at")) for each in listed] == [(False, None)] * 3
    assert retrieve(theirs.http, step(theirs.http, f"{theirs.s}:train:0", 5)).json()["metrics"] is not None


def test_an_admin_sees_everybodys(http, theirs):
    assert theirs.s in http.get("/api/v1/sessions").text
    assert theirs.s in http.get("/api/v1/training_runs").text
    assert theirs.s in http.get("/v1/models").text
    assert http.post("/api/v1/get_info", json={"model_id": f"{theirs.s}:train:0"}).status_code == 200
    assert http.post("/api/v1/retrieve_future", json={"request_id": theirs.future}).status_code == 200


def test_a_published_checkpoint_is_everybodys_to_read_and_nobody_elses_to_change(server, new_key, theirs):
    path = f"/api/v1/training_runs/{theirs.s}:train:0/checkpoints/sampler_weights/s"
    body = filled(CHAT, theirs)
    with new_key().http(server) as http:
        assert http.post("/v1/chat/completions", json=body).status_code == 404
        theirs.http.post(f"{path}/publish")
        assert http.post("/v1/chat/completions", json=body).status_code == 200
        info = {"tinker_path": f"tinker://{theirs.s}:train:0/sampler_weights/s"}
        assert http.post("/api/v1/weights_info", json=info).json()["lora_rank"] == 2
        assert theirs.s in http.get("/v1/models").text
        assert [http.delete(path).status_code, http.delete(f"{path}/publish").status_code] == [404, 404]
        theirs.http.delete(f"{path}/publish")
        assert http.post("/v1/chat/completions", json=body).status_code == 404


def test_a_revoked_key_is_401_in_both_dialects(server, new_key):
    key = new_key()
    new_key.table.revoke(key.key_id, 2.0)
    with key.http(server) as http:
        tinker, chat = http.get("/api/v1/sessions"), http.get("/v1/models")
    assert (tinker.status_code, tinker.json()["detail"]) == (401, "the token is not valid here")
    assert (chat.status_code, chat.json()["error"]["code"]) == (401, "invalid_api_key")


def test_a_quota_of_models_says_the_numbers_and_a_retry_is_no_second_model(server, new_key):
    with new_key(max_models=1).http(server) as http:
        session = http.post("/api/v1/create_session", json={}).json()["session_id"]
        assert make_model(http, session) == make_model(http, session)
        body = {"session_id": session, "model_seq_id": 1, "base_model": "tiny-qwen3", "lora_config": {"rank": 2}}
        refused = http.post("/api/v1/create_model", json=body)
        assert refused.status_code == 403  # which no SDK retries
        assert "its quota is 1" in refused.json()["detail"]
        http.post(f"/api/v1/sessions/{session}/finish", json={})
        session = http.post("/api/v1/create_session", json={}).json()["session_id"]
        assert make_model(http, session)


def test_a_quota_of_bytes_fails_the_save_and_nothing_else(server, new_key):
    with new_key(max_bytes=1).http(server) as http:
        model_id = make_model(http, http.post("/api/v1/create_session", json={}).json()["session_id"])

        def save(seq_id):
            body = {"model_id": model_id, "seq_id": seq_id, "path": f"w{seq_id}"}
            return retrieve(http, http.post("/api/v1/save_weights", json=body)).json()

        assert "path" in save(1)
        failed = save(2)
        assert failed["category"] == "user"
        assert "its quota is 1" in failed["error"]
        assert "metrics" in retrieve(http, step(http, model_id, 3)).json()
        saved = f"/api/v1/training_runs/{model_id}/checkpoints/weights/w1"
        archive = http.get(f"{saved}/archive", follow_redirects=True).content
        refused = http.post("/api/v1/checkpoints/import?name=brought", content=archive)
        assert (refused.status_code, "its quota is 1" in refused.text) == (403, True)
        http.delete(saved)
        assert "path" in save(4)


def test_a_quota_of_requests_is_429_but_never_for_the_job_that_others_wait_for(server, new_key):
    with new_key(max_requests=2).http(server) as http:
        model_id = make_model(http, http.post("/api/v1/create_session", json={}).json()["session_id"])
        waiting = [step(http, model_id, seq_id) for seq_id in (2, 3)]
        refused = step(http, model_id, 4)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert "its quota is 2" in refused.json()["detail"]
        assert step(http, model_id, 1).status_code == 200
        assert ["metrics" in retrieve(http, each).json() for each in waiting] == [True, True]
        assert step(http, model_id, 4).status_code == 200


# Routes exist once the application has started; its workers, which nobody needs here, end at once.
_ROUTES = """
import asyncio, json, sys
from pathlib import Path
from starlette.routing import Mount
from metaclaw.training.api.admission import Load
from metaclaw.training.api.app import ServerDeps, make_app
from metaclaw.training.api.sampling import BaseModel
from metaclaw.training.api.workers import WorkerSpec

def routes(router, prefix=""):
    for route in router.routes:
        if isinstance(route, Mount):
            yield from routes(route.app, prefix + route.path)
        elif hasattr(route, "original_router"):
            yield from routes(route.original_router, prefix)
        else:
            yield from ((method, prefix + route.path) for method in route.methods)

async def main():
    worker = {"start": {}, "environment": {}, "role": "nobody"}
    app = make_app(ServerDeps(
        api_key="k", data_dir=Path(sys.argv[2]), base=BaseModel(name="b", aliases=frozenset(), directory=sys.argv[1]),
        engine=WorkerSpec(name="engine", **worker), sampler=WorkerSpec(name="sampler", **worker), max_rank=8,
        limits={"training": Load(), "sampling": Load(requests=1)},
    ))
    async with app.router.lifespan_context(app):
        print(json.dumps(list(routes(app))))
        await asyncio.sleep(0.1)

asyncio.run(main())
"""


def test_every_route_has_a_verdict(server, tmp_path):
    command = [sys.executable, "-c", _ROUTES, str(server.model), str(tmp_path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout.splitlines()[0])
    assert len(found) > 40
    assert {tuple(route) for route in found} - set(VERDICTS) == set()


OPEN = {"/healthz", "/readyz"}


@pytest.mark.parametrize("route", sorted(VERDICTS), ids=" ".join)
def test_without_a_key_nothing_but_health_is_answered(server, theirs, route):
    with httpx2.Client(base_url=server.url) as http:
        answer = ask(http, route, theirs)
    if route[1] in OPEN:
        assert answer.status_code == 200
    elif "/downloads/" in route[1]:
        assert answer.status_code == 403
    elif route[0] == "HEAD":
        assert answer.status_code == 401
    elif "there is no route" not in answer.text:
        assert answer.status_code == 401
        assert "detail" in answer.json() if route[1].startswith("/api/v1/") else "error" in answer.json()
