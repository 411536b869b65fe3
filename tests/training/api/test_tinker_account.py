"""Start-up, tokens, sessions, and what is refused with a reason."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode

import httpx2
import pytest
import tinker
from tinker import types

from tests.fakes.lossy_proxy import LosesFirstPoll
from tests.fakes.training_server import API_KEY


def config(http, version):
    return http.post("/api/v1/client/config", json={"sdk_version": version}).json()


@pytest.mark.parametrize(
    ("version", "is_old"),
    [("0.22.0", True), ("0.15.0", True), ("0.24.9", True), ("0.25.0", False), ("0.38.0", False), ("1.0.0", False),
     ("", False), ("unknown", False)],
)  # fmt: skip
def test_only_sdks_that_need_tokens_are_told_to_fetch_one(http, version, is_old):
    flags = config(http, version)
    assert flags["pjwt_auth_enabled"] is is_old
    assert flags["use_pyqwest_transport"] is not is_old


@pytest.mark.parametrize("key", [API_KEY, f"sk-{API_KEY}"])
def test_a_token_opens_every_door_that_its_key_opens(server, key):
    token = httpx2.post(f"{server.url}/api/v1/auth/token", json={}, headers={"X-API-Key": key}).json()["jwt"]
    claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["exp"] - claims["iat"] == 3600
    assert API_KEY not in urlsafe_b64decode(token.split(".")[1] + "==").decode()
    for path in ("/api/v1/get_server_capabilities", "/v1/models"):
        assert httpx2.get(server.url + path, headers={"X-API-Key": token}).status_code == 200
        assert httpx2.get(server.url + path, headers={"Authorization": f"Bearer {token}"}).status_code == 200
        forged = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
        assert httpx2.get(server.url + path, headers={"X-API-Key": forged}).status_code == 401


@pytest.mark.filterwarnings("ignore::tinker.ExperimentalWarning")
def test_sessions_are_listed_and_found_by_name_and_metadata(server, http, rest):
    for name, who in (("Alpha run", "me"), ("Beta run", "me"), ("Alpha two", "you")):
        http.post("/api/v1/create_session", json={"display_name": name, "user_metadata": {"who": who}})

    def found(**asked):
        return [each["display_name"] for each in http.post("/api/v1/sessions/search", json=asked).json()["sessions"]]

    assert found(display_name="ALPHA") == ["Alpha two", "Alpha run"]
    assert found(display_name="run alpha", user_metadata={"who": "me"}) == ["Alpha run"]
    assert found(user_metadata={"who": "nobody"}) == []
    one = types.SessionSearchRequest(user_metadata={"who": "me"}, limit=1)
    page = rest.search_sessions(one).result()
    following = rest.search_sessions(one.model_copy(update={"cursor": page.next_cursor})).result()
    assert [each.display_name for each in (*page.sessions, *following.sessions)] == ["Beta run", "Alpha run"]
    assert following.next_cursor is None
    assert page.sessions[0].session_id in rest.list_sessions(limit=1000).result().sessions


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("POST", "retrieve_futures", "retrieve_future"),
        ("POST", "create_custom_loss", "forward_backward_custom"),
        ("POST", "copy_weights", "publish"),
        ("POST", "join_sampling_session", "without joining"),
        ("PUT", "sessions/x/project", "no projects"),
        ("GET", "sessions/x/trace_export", "no traces"),
        ("GET", "audit", "no audit"),
        ("GET", "billing/usage/events", "bills nobody"),
    ],
)
def test_what_is_not_served_says_why_with_a_status_that_no_sdk_retries(http, method, path, words):
    answer = http.request(method, f"/api/v1/{path}", json=None if method == "GET" else {})
    assert (answer.status_code, answer.json()["category"]) == (400, "user")
    assert words in answer.json()["error"]
    assert answer.json()["detail"] == answer.json()["error"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"target_prompt_logprobs": {"data": [1], "dtype": "int64", "shape": [1, 1]}}, "forward"),
        ({"prompt_alt_tokens_k": 2}, "topk_prompt_logprobs"),
        ({"record_stability_info": True}, "stable_reinforce"),
        ({"prompt": {"chunks": [{"type": "image", "data": "", "format": "png"}]}}, "image"),
        ({"prompt": {"chunks": [{"type": "dmel", "dmel": ""}]}}, "dmel"),
        ({"prompt_logprobs_last_n": 1}, "prompt_logprobs"),
        ({"prompt_logprobs": True, "prompt_logprobs_last_n": 9}, "1 to 3"),
    ],
)
def test_a_sample_of_a_kind_that_is_not_served_says_what_to_do_instead(http, asked, words):
    body = {"base_model": "tiny-qwen3", "prompt": {"chunks": [{"tokens": [1, 2, 3]}]}, **asked}
    answer = http.post("/api/v1/asample", json=body)
    assert (answer.status_code, answer.json()["category"]) == (400, "user")
    assert words in answer.json()["detail"]


def test_log_probs_of_the_prompts_end_alone_leave_the_rest_unscored(server, service):
    sampler = service.create_sampling_client(base_model=str(server.model)).result()
    prompt = types.ModelInput.from_ints([1, 2, 3, 4, 5])
    params = types.SamplingParams(max_tokens=1)
    whole = sampler.sample(prompt, 1, params, include_prompt_logprobs=True).result().prompt_logprobs
    ends = sampler.sample(prompt, 1, params, include_prompt_logprobs=True, prompt_logprobs_last_n=2).result()
    assert ends.prompt_logprobs == [None, None, None, *whole[3:]]


def test_a_number_beyond_53_bits_is_kept_exactly(http):
    """Clones number their samples from a random part times 1e9: as floats, neighbours would be one request."""
    session_id = http.post("/api/v1/create_session", json={}).json()["session_id"]
    made = {"session_id": session_id, "sampling_session_seq_id": 0, "base_model": "tiny-qwen3"}
    sampling_id = http.post("/api/v1/create_sampling_session", json=made).json()["sampling_session_id"]
    body = {"sampling_session_id": sampling_id, "prompt": {"chunks": [{"tokens": [1]}]}}

    def request_id(seq_id):
        return http.post("/api/v1/asample", json={**body, "seq_id": seq_id}).json()["request_id"]

    first = request_id(274235012000000000)
    assert request_id(274235012000000000) == first
    assert request_id(274235012000000001) != first


def test_a_lost_sample_is_asked_for_again_and_comes(server, service):
    """410: the SDK sends the sample once more under its next number; here every promise is of a server before."""
    sampler = service.create_sampling_client(base_model=str(server.model)).result()
    prompt = types.ModelInput.from_ints([1, 2, 3])
    params = types.SamplingParams(max_tokens=4, seed=1, stop=[])
    with LosesFirstPoll(server.url) as lossy:
        other = tinker.ServiceClient(base_url=lossy.url, api_key=f"tml-{API_KEY}")
        again = other.create_sampling_client(base_model=str(server.model)).result().sample(prompt, 1, params).result()
        other.close("success").result()
    assert lossy.num_lost == 1
    assert lossy.num_samples == 2
    assert again.sequences[0].tokens == sampler.sample(prompt, 1, params).result().sequences[0].tokens
