"""Weights for programs elsewhere: saved, listed, downloaded without a key for a while, and opened by PEFT."""

from __future__ import annotations

import io
import tarfile
from urllib.parse import urlsplit

import httpx2
import peft
import pytest
import tinker
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tinker import types
from transformers import AutoModelForCausalLM

from metaclaw.errors import CheckpointError
from metaclaw.training.api.access_tokens import LIFETIME_S, AccessTokens
from metaclaw.training.api.downloads import archive, file_names
from metaclaw.training.api.signing import Signer
from tests.training.api.test_tinker_training import datum

TOKENS = [1, 2, 3, 4, 5, 6]
FILES = ["adapter_config.json", "adapter_model.safetensors", "manifest.json"]


@pytest.fixture(scope="module")
def trainer(server, service):
    client = service.create_lora_training_client(str(server.model), rank=4, seed=7).result()
    client.forward_backward([datum(TOKENS)], "cross_entropy")
    client.optim_step(types.AdamParams(learning_rate=1e-2)).result()
    return client


@pytest.fixture(scope="module")
def external(trainer):
    return trainer.save_weights_external("for-others").result().path


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
def test_external_weights_are_downloaded_without_a_key_and_peft_opens_them(server, rest, trainer, external, tmp_path):
    """PITFALLS B8: part of what was trained was not saved."""
    assert external.endswith("/external_weights/for-others")
    answer = rest.get_external_weights_urls(external).result()
    assert sorted(answer.urls) == FILES
    for name, url in answer.urls.items():
        (tmp_path / name).write_bytes(httpx2.get(url).raise_for_status().content)
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(server.model), tmp_path).eval()
    assert model.peft_config["default"].base_model_name_or_path == "tiny-qwen3"
    with torch.no_grad():
        logprobs = model(torch.tensor([TOKENS[:-1]])).logits.log_softmax(-1)[0]
    ours = trainer.forward([datum(TOKENS)], "cross_entropy").result().loss_fn_outputs[0]["logprobs"].data
    theirs = [logprobs[position, token].item() for position, token in enumerate(TOKENS[1:])]
    assert theirs == pytest.approx(ours, abs=1e-4)


def test_external_weights_are_listed_kept_for_a_while_and_deleted_as_all_others(rest, trainer, external):
    model_id = trainer.get_info().model_id
    (listed,) = rest.list_checkpoints(model_id).result().checkpoints
    assert (listed.checkpoint_type, listed.tinker_path) == ("external", external)
    path = trainer.save_weights_external("short", ttl_seconds=3600).result().path
    rest.set_checkpoint_ttl_from_tinker_path(path, 7200).result()
    rest.delete_checkpoint_from_tinker_path(path).result()
    with pytest.raises(tinker.NotFoundError):
        rest.get_external_weights_urls(path).result()


def test_external_weights_are_neither_sampled_nor_trained_on(service, external):
    with pytest.raises(tinker.BadRequestError, match="sampler_weights"):
        service.create_sampling_client(model_path=external).result()
    with pytest.raises(tinker.RequestFailedError, match="without its optimiser"):
        service.create_training_client_from_state(external).result()


def test_encryption_is_refused_not_forgotten(trainer):
    with pytest.raises(tinker.RequestFailedError, match="age_encryption_recipients") as refused:
        trainer.save_weights_external("secret", age_encryption_recipients=["age1xyz"]).result()
    assert refused.value.category == types.RequestErrorCategory.User


def test_an_address_is_good_for_its_own_file_only(server, rest, http, external):
    urls = rest.get_external_weights_urls(external).result().urls
    good = urls["manifest.json"]
    query = urlsplit(good).query
    wrong = [
        good.replace("manifest.json", "adapter_config.json"),
        good.replace("manifest.json", "..%2f..%2fserver.db"),
        good.replace("for-others", "another"),
        good.replace("expires=", "expires=1"),
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        good.replace(query, ""),
        good.replace("signature=", "signature=%C3%A9"),
    ]
    assert httpx2.get(good).status_code == 200
    for url in wrong:
        assert httpx2.get(url).status_code in (403, 404)
        assert http.get(url).status_code in (403, 404)  # a key is no help here


def test_an_archive_is_a_redirect_to_all_files_in_one(http, trainer):
    path = trainer.save_weights_for_sampler("packed").result().path
    model_id, kind, name = path.removeprefix("tinker://").split("/")
    answer = http.get(f"/api/v1/training_runs/{model_id}/checkpoints/{kind}/{name}/archive")
    assert (answer.status_code, answer.headers["expires"][-3:]) == (302, "GMT")
    content = httpx2.get(answer.headers["location"]).raise_for_status().content
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as packed:
        assert packed.getnames() == FILES
    assert httpx2.get(answer.request.url).status_code == 401


def test_addresses_of_what_does_not_exist_are_not_given_out(http, trainer):
    run = f"/api/v1/training_runs/{trainer.get_info().model_id}/checkpoints"
    assert http.get(f"{run}/external_weights/nothing/external_weights_urls").status_code == 404
    assert http.get(f"{run}/external_weights/../external_weights_urls").status_code == 404
    assert http.get(f"{run}/external_weights/%2e%2e/external_weights_urls").status_code in (400, 404)
    assert http.get(f"{run}/weights/nothing/external_weights_urls").status_code == 400


@settings(deadline=None)
@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4))
def test_an_archive_is_read_back_whole(tmp_path_factory, contents):
    directory = tmp_path_factory.mktemp("packed")
    names = [f"file-{index}" for index in range(len(contents))]
    for name, content in zip(names, contents, strict=True):
        (directory / name).write_bytes(content)
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive(directory, names))), mode="r:gz") as packed:
        members = [packed.extractfile(name) for name in packed.getnames()]
        assert [member.read() for member in members if member is not None] == contents


def test_a_folder_that_is_no_checkpoint_has_no_files(tmp_path):
    (tmp_path / "secret").write_text("x")
    with pytest.raises(CheckpointError):
        file_names(tmp_path)


def test_a_signature_ends_with_its_time_and_its_key():
    signer = Signer("a key")
    signature = signer.sign("download", 100, "a", "b")
    assert signer.holds(signature, "download", 100, "a", "b", now=99)
    assert not signer.holds(signature, "download", 100, "a", "b", now=100)
    assert not signer.holds(signature, "download", 101, "a", "b", now=99)
    assert not signer.holds(signature, "token", 100, "a", "b", now=99)
    assert not signer.holds(signature, "download", 100, "ab", "", now=99)
    assert not Signer("another").holds(signature, "download", 100, "a", "b", now=99)
    assert not Signer("").holds(Signer("").sign("download", 100), "download", 100, now=99)  # no key is no secret


@given(st.text(max_size=20), st.integers(-(10**6), 10**6))
def test_a_token_stands_for_its_key_for_an_hour(key_id, later):
    now = 1_800_000_000.0
    tokens = AccessTokens(signer=Signer("a key"), clock=lambda: now)
    token = tokens.issue(key_id)
    assert token.startswith("eyJ")
    reader = AccessTokens(signer=Signer("a key"), clock=lambda: now + later)
    assert reader.key_id(token) == (key_id if later < LIFETIME_S else None)


@given(st.text(max_size=60))
def test_no_text_is_a_token_but_one_of_ours(text):
    tokens = AccessTokens(signer=Signer("a key"), clock=lambda: 0.0)
    foreign = AccessTokens(signer=Signer("another"), clock=lambda: 0.0).issue("")
    head, _, signature = tokens.issue("").rpartition(".")
    for presented in (text, f"eyJ{text}", f"{head}.{text}", f"{text}.{signature}", foreign, "eyJ.e30.e30"):
        assert tokens.key_id(presented) is None
