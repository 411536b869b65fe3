"""Run by `.ci/run` with a Python that has the base install alone: no torch, and a gateway that answers."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.cli.programs import ask, metaclaw, started, upstream


def main() -> int:
    present = [
        name for name in ("torch", "transformers", "numpy", "msgpack", "tinker") if importlib.util.find_spec(name)
    ]
    if present:
        sys.stderr.write(f"the base install brings {', '.join(present)}\n")
        return 1
    with tempfile.TemporaryDirectory() as directory, upstream() as url:
        home = Path(directory) / "home"
        done = metaclaw(home, "setup", "--yes", "--api-base", url, "--port", "0")
        assert done.returncode == 0, done.stderr
        with started(home, "--mode", "skills_only"):
            assert ask(home) == "hello from upstream"
        refused = metaclaw(home, "train-server", "--base-model", "x")
        assert 'pip install "metaclaw[rl]"' in refused.stderr, refused.stderr
    sys.stdout.write("the base install serves\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
