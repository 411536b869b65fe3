"""How much may be open, and whose: counts first, then a flood of a real server."""

from __future__ import annotations

import json
import re
import time

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.errors import OverloadedError
from metaclaw.training.api.admission import Admission, Load
from metaclaw.training.api.database import connect
from metaclaw.training.api.json_dialect import read_pass
from metaclaw.training.api.keys import KeyTable
from metaclaw.training.api.proto import tinker_pb2 as pb
from metaclaw.training.api.tenants import Quotas, Tenant
from tests.training.api.test_tinker_json_dialect import body
from tests.training.api.test_tinker_wire import forward_backward, make_model, post_fb, retrieve

ANNA, BERTHA = (Tenant(key_id=name, name=name) for name in ("anna", "bertha"))
ONE = Load(requests=1, tokens=10, size_bytes=100)


def fill(admission, tenant, load=ONE, **more):
    tickets = []
    try:
        while len(tickets) < 1000:
            tickets.append(admission.take("training", tenant, tenant.key_id, load, **more))
    except OverloadedError:
        return tickets
    raise AssertionError("there was no limit")


def test_a_tenant_alone_has_all_the_room_and_gives_half_of_it_up_as_a_second_comes():
    admission = Admission(limits={"training": Load(size_bytes=1000), "sampling": Load()})
    hers = fill(admission, ANNA)
    assert len(hers) == 10
    assert len(fill(admission, BERTHA)) == 5
    for ticket in hers[:5]:
        ticket.release()
        with pytest.raises(OverloadedError):  # until she holds less than half
            admission.take("training", ANNA, "anna", ONE)
    hers[5].release()
    admission.take("training", ANNA, "anna", ONE)


def test_who_has_nothing_open_is_let_in_even_with_more_than_there_is_room_for():
    admission = Admission(limits={"training": Load(size_bytes=1000)})
    fill(admission, ANNA)
    admission.take("training", BERTHA, "bertha", Load(requests=1, size_bytes=5000))


def test_the_job_that_others_wait_for_is_never_refused():
    admission = Admission(limits={"training": Load(requests=3)})
    fill(admission, ANNA)
    for _ in range(10):
        admission.take("training", ANNA, "anna", ONE, place="awaited")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 400)), max_size=200))
def test_nothing_is_ever_lost_or_counted_twice_and_the_room_is_bounded(steps):
    admission, held = Admission(limits={"training": Load(size_bytes=1000)}), []
    for owner, gives_back, size in steps:
        if gives_back and held:
            ticket, _ = held.pop(0)
            ticket.release()
            ticket.release()
        else:
            try:
                load = Load(requests=1, size_bytes=size)
                held.append((admission.take("training", Tenant(key_id=owner, name=owner), owner, load), load))
            except OverloadedError:
                pass
        assert admission.total("training") == sum((load for _, load in held), Load())
        assert admission.total("training").size_bytes <= 1000 * (1 + 1 / 2 + 1 / 3)


@pytest.fixture
def key(server):
    connection = connect(server.data_dir / "server.db")

    def make(name):
        secret, _ = KeyTable(connection).create(name, is_admin=False, quotas=Quotas(), now=time.time())
        return httpx2.Client(base_url=server.url, headers={"X-API-Key": secret}, timeout=60)

    yield make
    connection.close()


def session_of(http):
    return http.post("/api/v1/create_session", json={}).json()["session_id"]


def post_long(http, model_id, seq_id):
    """A pass of several thousand tokens, no two sequences alike: about a quarter of a second for the tiny model."""
    message = pb.ForwardBackwardRequest.FromString(forward_backward(model_id, seq_id))
    tokens = np.arange(1000, dtype="<i4") % 250
    for number in range(8):
        datum = message.data.add()
        datum.model_input.add().encoded_text.tokens = np.roll(tokens, number).tobytes()
        for name, dtype, values in (
            ("target_tokens", pb.DTYPE_INT64, tokens.astype("<i8")),
            ("weights", pb.DTYPE_FLOAT32, np.ones(len(tokens), "<f4")),
        ):
            tensor = datum.loss_fn_inputs[name]
            tensor.dtype, tensor.dense = dtype, values.tobytes()
            tensor.shape.append(len(values))
    headers = {"Content-Type": "application/x-protobuf"}
    answer = http.post("/api/v1/forward_backward", content=message.SerializeToString(), headers=headers)
    assert answer.status_code == 200


def num_passes(admin):
    page = admin.get("/metrics").text
    found = re.search(r'^metaclaw_jobs_total{op="forward_backward",outcome="ok"} (\S+)', page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_small_pass_of_one_tenant_is_done_before_half_of_the_queue_of_another(server, http, key):
    with key("flooding") as flood, key("working") as work:
        session = session_of(flood)
        theirs, mine = make_model(flood, session), make_model(work, session_of(work))
        with server.suspended("engine"):  # all of it is queued before any of it is run
            for seq_id in range(1, 41):
                post_long(flood, theirs, seq_id)
            small = post_fb(work, mine, 1)
        before = num_passes(http)
        assert retrieve(work, small).headers["content-type"] == "application/x-protobuf"
        assert num_passes(http) - before <= 20
        assert flood.post(f"/api/v1/sessions/{session}/finish", json={}).status_code == 200  # nobody waits for the rest


def test_tokens_that_wait_to_be_trained_on_are_counted_in_either_dialect(server, http, key):
    """KNOWLEDGE 6: what ends in out-of-memory is counted before it is run, and given back after."""
    with key("counted") as client:
        model = make_model(client, session_of(client))
        while queued_training_tokens(http):  # what another test left to the engine
            time.sleep(0.05)
        with server.suspended("engine"):
            post_long(client, model, 1)
            assert queued_training_tokens(http) == 8002
            posted = client.post("/api/v1/forward_backward", json=body(model, 2))
            assert queued_training_tokens(http) == 8004
        retrieve(client, posted)
        assert queued_training_tokens(http) == 0


def test_tokens_beyond_the_room_wait_outside_whatever_their_bytes():
    admission = Admission(limits={"training": Load(tokens=1000, size_bytes=10**9)})
    tenant = Tenant(key_id="a", name="a")
    first = admission.take("training", tenant, "a", Load(requests=1, tokens=900, size_bytes=10))
    with pytest.raises(OverloadedError, match="900 tokens"):
        admission.take("training", tenant, "a", Load(requests=1, tokens=200, size_bytes=10))
    admission.take("training", tenant, "a", Load(requests=1, tokens=200, size_bytes=10), place="awaited")
    first.release()
    admission.take("training", tenant, "a", Load(requests=1, tokens=200, size_bytes=10))


@pytest.mark.parametrize("spoilt", [None, [], {}, {"data": 3}, {"data": [None, {"model_input": {"chunks": [7]}}]}])
def test_a_json_body_of_any_shape_is_counted_and_left_to_its_job(spoilt):
    sent = json.dumps({"model_id": "m", "seq_id": 1, "forward_backward_input": spoilt}).encode()
    assert read_pass(sent, "application/json", forward_only=False).num_tokens == 0


def queued_training_tokens(admin):
    found = re.search(r"^metaclaw_queued_training_tokens (\S+)", admin.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])
