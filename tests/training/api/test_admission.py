"""How much may be open, and whose: counts first, then a flood of a real server."""

from __future__ import annotations

import threading
import time

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.errors import OverloadedError
from metaclaw.training.api.admission import Admission, Load
from metaclaw.training.api.database import connect
from metaclaw.training.api.keys import KeyTable
from metaclaw.training.api.proto import tinker_pb2 as pb
from metaclaw.training.api.tenants import Quotas, Tenant
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


def model_of(http):
    return make_model(http, http.post("/api/v1/create_session", json={}).json()["session_id"])


def post_large(http, model_id, seq_id, num_datums=400):
    message = pb.ForwardBackwardRequest.FromString(forward_backward(model_id, seq_id))
    for _ in range(num_datums - 1):
        message.data.add().CopyFrom(message.data[0])
    headers = {"Content-Type": "application/x-protobuf"}
    answer = http.post("/api/v1/forward_backward", content=message.SerializeToString(), headers=headers)
    assert answer.status_code == 200
    return answer


def test_a_small_pass_of_one_tenant_is_done_before_half_of_the_queue_of_another(key):
    with key("flooding") as flood, key("working") as work:
        theirs, mine = model_of(flood), model_of(work)
        queued = [post_large(flood, theirs, seq_id) for seq_id in range(1, 41)]
        half = threading.Event()

        def wait_for_half():
            retrieve(flood, queued[19])
            half.set()

        waiting = threading.Thread(target=wait_for_half)
        waiting.start()
        assert retrieve(work, post_fb(work, mine, 1)).headers["content-type"] == "application/x-protobuf"
        assert not half.is_set()
        waiting.join()
        assert retrieve(flood, queued[-1]).headers["content-type"] == "application/x-protobuf"
