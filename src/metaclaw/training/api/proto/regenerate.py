"""Makes ``tinker_pb2.py`` from ``tinker.proto``: ``python -m metaclaw.training.api.proto.regenerate``.

Owns that one command; refuses to know what the messages mean. Use ``grpcio-tools`` 1.74, for the
reason that stands in the source.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Run protoc beside the source; return its exit code."""
    arguments = [f"-I{HERE}", f"--python_out={HERE}", f"--pyi_out={HERE}", "tinker.proto"]
    return subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
