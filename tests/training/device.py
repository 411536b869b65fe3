"""Where the tests of the engine, the sampler and their server run: the CPU, or what ``METACLAW_TEST_DEVICE`` names.

``make test-gpu`` names ``cuda:0``. Their tolerances are those of float32, so that is what they ask for on any device.
"""

from __future__ import annotations

import os

DEVICE = os.environ.get("METACLAW_TEST_DEVICE", "cpu")
ON_GPU = DEVICE != "cpu"
