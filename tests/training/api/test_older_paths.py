"""Whoever points a client of another training server at this one is told how this one is asked."""

from __future__ import annotations

import pytest

from metaclaw.training.api.older_paths import hint


@pytest.mark.parametrize(
    "path",
    ["/v1/lora/create", "/v1/train/forward_backward", "/v1/train/optim_step", "/v1/weights/save",
     "/v1/checkpoint/save", "/v1/checkpoint/load", "/v1/sample"],
)  # fmt: skip
def test_the_forks_endpoints_lead_to_the_tinker_api(path: str):
    """SPEC A15."""
    assert "Tinker API" in hint(path)


def test_its_health_is_elsewhere_and_other_paths_are_nobodys():
    assert "GET /healthz" in hint("/v1/health")
    assert hint("/v1/samples") == hint("/nothing") == ""
