"""Models and adapters that several test files share; made once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes.tiny_model import make_tiny_model, make_untied_model
from tests.training.samplers.adapters import ALL_LINEAR, write_adapter


@dataclass
class Family:
    """A base model's folder and its adapters' folders by name."""

    base: Path
    adapters: dict[str, Path] = field(default_factory=dict)


@pytest.fixture(scope="session")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A tied Qwen3 with adapters of different ranks, targets and scalings."""
    root = tmp_path_factory.mktemp("tied")
    base = make_tiny_model(root / "base")
    return Family(
        base=base,
        adapters={
            "a": write_adapter(base, root / "a", seed=1, rank=4),
            "b": write_adapter(base, root / "b", seed=2, rank=16, use_rslora=True),
            "c": write_adapter(base, root / "c", seed=3, rank=2, targets=("q_proj", "v_proj"), alpha=8),
        },
    )


@pytest.fixture(scope="session")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """An untied Llama with adapters of which some change the output embedding."""
    root = tmp_path_factory.mktemp("untied")
    base = make_untied_model(root / "base")
    return Family(
        base=base,
        adapters={
            "head": write_adapter(base, root / "head", seed=4, rank=8, targets=(*ALL_LINEAR, "lm_head")),
            "body": write_adapter(base, root / "body", seed=5, rank=3),
        },
    )
