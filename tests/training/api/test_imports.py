"""A saved state that is brought from elsewhere: trained on as if it had never left, or refused whole."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import pickle
import tarfile
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection

import pytest
import safetensors.numpy
from tinker import types

from metaclaw.training.checkpoints import MANIFEST, verify
from tests.fakes.training_server import API_KEY
from tests.training.api.test_tinker_checkpoints import folder_of
from tests.training.api.test_tinker_training import datum

WEIGHTS, MOMENTS = "adapter_model.safetensors", "optimizer.safetensors"


@pytest.fixture(scope="module")
def trained(service):
    client = service.create_lora_training_client("tiny-qwen3", rank=4, seed=3).result()
    step(client)
    return client.save_state("to-be-taken-along").result().path


@pytest.fixture
def packed(http, trained) -> bytes:
    model, kind, name = trained.removeprefix("tinker://").split("/")
    answer = http.get(f"/api/v1/training_runs/{model}/checkpoints/{kind}/{name}/archive", follow_redirects=True)
    assert answer.status_code == 200
    return answer.content


@pytest.fixture
def files(packed) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # pyright: ignore


def step(client) -> None:
    client.forward_backward([datum([5, 6, 7, 8, 9])], "cross_entropy")
    client.optim_step(types.AdamParams(learning_rate=1e-2)).result()


def test_an_imported_state_goes_on_training_as_the_original_bit_by_bit(server, service, http, packed, trained):
    answer = http.post("/api/v1/checkpoints/import?name=brought&ttl_seconds=86400", content=packed)
    assert answer.status_code == 200, answer.text
    brought = answer.json()["tinker_path"]
    saved = {}
    for number, path in enumerate((trained, brought)):
        client = service.create_training_client_from_state_with_optimizer(path).result()
        step(client)
        client.save_state(f"went-on-{number}").result()
        saved[number] = verify(folder_of(server, f"went-on-{number}")).files
    assert saved[0] == saved[1]
    again = http.post("/api/v1/checkpoints/import?name=brought", content=packed).json()["tinker_path"]
    assert again != brought, "a path never means other weights later"
    listed = {one["tinker_path"]: one for one in http.get("/api/v1/checkpoints?limit=1000").json()["checkpoints"]}
    assert listed[brought]["expires_at"]
    assert not listed[again]["expires_at"]


def with_manifest(files: Mapping[str, bytes], **claims) -> dict[str, bytes]:
    """``files`` with a manifest that fits them, and ``claims`` in it: as somebody who means harm would make it."""
    document = json.loads(files[MANIFEST]) | claims
    del document["digest"]
    document["files"] = {
        name: {"sha256": hashlib.sha256(body).hexdigest(), "size_bytes": len(body)}
        for name, body in files.items()
        if name != MANIFEST
    }
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    return {**files, MANIFEST: json.dumps(document | {"digest": digest}).encode()}


def changed(files, name, change) -> dict[str, bytes]:
    tensors = safetensors.numpy.load(files[name])
    first = min(tensors)
    return with_manifest({**files, name: safetensors.numpy.save(change(tensors, first))})


REFUSED = {
    "a pickle for weights": lambda files: with_manifest({**files, WEIGHTS: pickle.dumps({"x": 1})}),
    "a pickle beside": lambda files: {**files, "optimizer.pt": pickle.dumps({})},
    "a path that leads out": lambda files: {**files, "../outside": b"x"},
    "a flipped bit": lambda files: {**files, WEIGHTS: files[WEIGHTS][:-1] + bytes([files[WEIGHTS][-1] ^ 1])},
    "a manifest of megabytes": lambda files: {**files, MANIFEST: files[MANIFEST] + b" " * (2 << 20)},  # PITFALLS S11
    "no optimiser": lambda files: with_manifest({name: body for name, body in files.items() if name != MOMENTS}),
    "no manifest": lambda files: {name: body for name, body in files.items() if name != MANIFEST},
    "another base": lambda files: with_manifest(files, base_digest="0" * 64),
    "weights of a sampler": lambda files: with_manifest(files, kind="sampler"),
    "another rank than said": lambda files: with_manifest(files, rank=8),
    "a rank beyond the server's": lambda files: with_manifest(files, rank=100_000),
    "a rank that is no number": lambda files: with_manifest(files, rank="4"),
    "another alpha": lambda files: with_manifest(files, alpha=64.0),
    "an alpha that is none": lambda files: with_manifest(files, alpha=float("nan")),
    "a shape": lambda files: changed(files, WEIGHTS, lambda all_, one: {**all_, one: all_[one][:, :1].copy()}),
    "a moment too few": lambda files: changed(files, MOMENTS, lambda all_, one: all_.pop(one).sum() * 0 or all_),
    "not a number": lambda files: changed(files, WEIGHTS, lambda all_, one: {**all_, one: all_[one] * float("nan")}),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_whatever_is_no_whole_state_of_this_base_is_refused_and_leaves_nothing(server, http, files, what):
    assert_refused(server, http, packing(REFUSED[what](files)))


def test_what_is_no_archive_or_holds_a_link_is_refused(server, http, files):
    link = tarfile.TarInfo(WEIGHTS)
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 31  # two gigabytes of zeros are two megabytes when packed
    bomb = gzip.compress(header.tobuf() + b"\0" * (8 << 20))
    cut, torn = packing(files)[:-400], bytearray(packing(files))
    torn[2000:2100] = b"\xff" * 100
    for body in (b"", b"no archive", cut, bytes(torn), packing(files, extra=link), gzip.compress(b"\0" * 10_000), bomb):
        assert_refused(server, http, body)


def test_more_than_is_taken_is_refused_before_it_is_read(server):
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.putrequest("POST", "/api/v1/checkpoints/import?name=large")
        connection.putheader("X-API-Key", API_KEY)
        connection.putheader("Content-Length", str(5 << 30))
        connection.endheaders()
        assert connection.getresponse().status == 413
    assert not list(server.data_dir.glob("checkpoints/.incoming-*"))


def assert_refused(server, http, body: bytes) -> None:
    before = sorted(server.data_dir.glob("checkpoints/*"))
    answer = http.post("/api/v1/checkpoints/import?name=harmful", content=body)
    assert 400 <= answer.status_code < 500, answer.text
    assert str(server.data_dir) not in answer.text
    assert sorted(server.data_dir.glob("checkpoints/*")) == before
    assert http.get("/readyz").status_code == 200


def packing(files: Mapping[str, bytes], *, extra: tarfile.TarInfo | None = None) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        if extra is not None:
            archive.addfile(extra)
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return packed.getvalue()
