"""Where the tests of the engine, the sampler and their server run: the CPU, or what ``METACLAW_TEST_DEVICE`` names.

``make test-gpu`` names ``cuda:0``. Their tolerances are those of float32, so that is what they ask for on any device.
"""

from __future__ import annotations

import os

DEVICE = os.environ.get("METACLAW_TEST_DEVICE", "cpu")
ON_GPU = DEVICE != "cpu"
TOLERANCE = 1e-4 if ON_GPU else 1e-5  # against the CPU's numbers: a GPU sums in another order

# An engine's memory for one or two trained models of the tiny base; what idles longer is away.
CRAMPED = {"adapter_host_memory_mb": 1} | ({"adapter_memory_mb": 1} if ON_GPU else {})
