"""What ``/metrics`` says, on the real server and its parts."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import numpy as np
import openai
import pytest
import tinker
from prometheus_client.parser import text_string_to_metric_families

from metaclaw.training.api.metrics import Metrics
from metaclaw.training.commands import Datum, ForwardBackward, Generate
from tests.fakes.training_server import TrainingServer

TEXT = "a prompt that no label may show"


def values(http: httpx2.Client) -> dict[str, float]:
    """Each sample's value by its name and labels."""
    families = text_string_to_metric_families(http.get("/metrics").text)
    samples = (sample for family in families for sample in family.samples)
    return {f"{s.name}{{{','.join(f'{k}={v}' for k, v in sorted(s.labels.items()))}}}": s.value for s in samples}


def test_the_page_needs_the_key(server: TrainingServer):
    with httpx2.Client(base_url=server.url) as stranger:
        assert stranger.get("/metrics").status_code == 401
        assert stranger.get("/healthz").status_code == 200


def test_what_a_client_does_is_counted(http: httpx2.Client, chat: openai.OpenAI, service: tinker.ServiceClient):
    before = values(http)
    training = service.create_lora_training_client(base_model="tiny-qwen3", rank=4).result()
    tokens = list(range(10, 20))
    datum = tinker.Datum(
        model_input=tinker.ModelInput.from_ints(tokens),
        loss_fn_inputs={"target_tokens": tokens, "weights": [1.0] * len(tokens)},  # pyright: ignore
    )
    training.forward_backward([datum, datum], "cross_entropy").result()
    training.optim_step(tinker.AdamParams()).result()
    stream = chat.chat.completions.create(
        model="tiny-qwen3", messages=[{"role": "user", "content": TEXT}], max_tokens=6, stream=True
    )
    answered = sum(1 for _ in stream)
    assert answered
    http.get("/v1/a-path-that-somebody-made-up")
    after = values(http)

    def grown(name: str) -> float:
        return after.get(name, 0.0) - before.get(name, 0.0)

    assert grown("metaclaw_training_tokens_total{op=forward_backward}") == 20
    assert grown("metaclaw_jobs_total{op=optim_step,outcome=ok}") == 1
    assert grown("metaclaw_jobs_total{op=generate,outcome=ok}") == 1
    assert 1 <= grown("metaclaw_sampling_tokens_total{kind=completion}") <= 6
    assert grown("metaclaw_sampling_tokens_total{kind=prompt}") > len(TEXT)
    assert grown("metaclaw_first_token_seconds_count{}") == 1
    assert grown("metaclaw_requests_total{method=POST,route=/v1/chat/completions,status=200}") == 1
    assert grown("metaclaw_requests_total{method=GET,route=unknown,status=404}") == 1
    assert after["metaclaw_sampling_open{}"] == after["metaclaw_sampling_waiting{}"] == 0
    assert after["metaclaw_training_waiting_tokens{}"] == 0
    assert after["metaclaw_queued_sampling_tokens{}"] == after["metaclaw_queued_training_bytes{}"] == 0
    assert after["metaclaw_worker_ready{worker=engine}"] == after["metaclaw_worker_ready{worker=sampler}"] == 1
    assert after["metaclaw_worker_starts{worker=engine}"] >= 1
    assert after["metaclaw_resident_bytes{process=api}"] > 10_000_000


def test_no_label_says_who_or_what(http: httpx2.Client, chat: openai.OpenAI, service: tinker.ServiceClient):
    training = service.create_lora_training_client(base_model="tiny-qwen3", rank=4).result()
    saved = training.save_weights_for_sampler(name="a-name-of-theirs").result().path
    chat.chat.completions.create(model=saved, messages=[{"role": "user", "content": TEXT}], max_tokens=2)
    page = http.get("/metrics").text
    for secret in (TEXT, "a-name-of-theirs", training.model_id, "tinker://"):
        assert secret not in page
    labels = set(re.findall(r'(\w+)="', page))
    assert labels <= {"route", "method", "status", "op", "outcome", "kind", "worker", "process", "le"}


@pytest.fixture
def ticking() -> Iterator[Metrics]:
    times = iter(np.arange(0.0, 1000.0, 0.25))
    return Metrics(clock=lambda: float(next(times)))


def sampled(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_generation_that_is_left_early_is_not_open_for_ever(ticking: Metrics):
    for frames in ([], [{"event": "tokens", "sample": 0, "tokens": np.arange(3)}]):
        watch = ticking.watch(Generate(adapter_id=None, prompt=np.arange(5)))
        assert sampled(ticking, "metaclaw_sampling_open") == sampled(ticking, "metaclaw_sampling_waiting") == 1
        for frame in frames:
            watch.frame(frame)
        watch.close()
        assert sampled(ticking, "metaclaw_sampling_open") == sampled(ticking, "metaclaw_sampling_waiting") == 0
    assert sampled(ticking, "metaclaw_jobs_total", op="generate", outcome="abandoned") == 2


def test_gaps_are_those_between_tokens_of_one_answer(ticking: Metrics):
    watch = ticking.watch(Generate(adapter_id=None, prompt=np.arange(5), num_samples=2))
    for sample in (0, 1, 0, 1, 0):
        watch.frame({"event": "tokens", "sample": sample, "tokens": np.arange(1)})
    assert sampled(ticking, "metaclaw_token_gap_seconds_count") == 3
    assert sampled(ticking, "metaclaw_token_gap_seconds_sum") == 1.5  # three times two ticks
    assert sampled(ticking, "metaclaw_first_token_seconds_count") == 1


def test_tokens_of_a_pass_that_failed_were_not_trained_on(ticking: Metrics):
    datum = Datum(tokens=np.arange(7), inputs={})
    watch = ticking.watch(ForwardBackward(model_id="m", data=(datum,), loss="cross_entropy"))
    assert sampled(ticking, "metaclaw_training_waiting_tokens") == 7
    watch.frame({"error": {"message": "no", "caller_fault": True}})
    watch.close()
    assert sampled(ticking, "metaclaw_training_waiting_tokens") == 0
    assert sampled(ticking, "metaclaw_training_tokens_total", op="forward_backward") == 0
    assert sampled(ticking, "metaclaw_jobs_total", op="forward_backward", outcome="user_error") == 1


def test_what_a_prompt_had_from_before_is_counted_once_however_many_samples(ticking: Metrics):
    watch = ticking.watch(Generate(adapter_id=None, prompt=np.arange(9), num_samples=2))
    for sample in (0, 1):
        watch.frame({"event": "finished", "sample": sample, "stop_reason": "stop", "cached_tokens": 8})
    watch.close()
    assert sampled(ticking, "metaclaw_sampling_tokens_total", kind="cached") == 8
    assert sampled(ticking, "metaclaw_sampling_tokens_total", kind="prompt") == 9
