"""Adapters saved for programs beyond this server, opened by PEFT itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from metaclaw.errors import CheckpointError, InvalidRequestError
from metaclaw.training.checkpoints import verify
from metaclaw.training.commands import LoadModel, SaveSampler
from metaclaw.training.engine import Engine
from tests.training.engine.conftest import MakeEngine
from tests.training.engine.material import create, forward_backward, supervised, train


def _logprobs(model: torch.nn.Module, tokens: np.ndarray, targets: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.tensor(tokens.astype(np.int64))[None]).logits[0].float()
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(targets)[:, None])[:, 0].numpy()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own use of an older name
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("tied", {}),
        ("untied", {"rank": 3, "alpha": 5.5}),
        ("untied", {"train_mlp": False, "train_unembed": False}),
        ("untied", {"train_attn": False, "train_mlp": False}),
    ],
)
def test_peft_opens_and_merges_an_external_export_and_computes_what_the_engine_does(
    kind: str, settings: dict, request: pytest.FixtureRequest, make_engine: MakeEngine, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(f"{kind}_folder")
    engine = make_engine(folder)
    create(engine, **settings)
    train(engine)
    datum = supervised(30)
    ours = forward_backward(engine, (datum,), forward_only=True)["logprobs"][0]
    engine.execute(
        SaveSampler(model_id="m", directory=str(tmp_path / "out"), kind="external", base_name="acme/base-1b")
    )

    assert verify(tmp_path / "out").kind == "external"
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    base = _logprobs(plain, datum.tokens, datum.inputs["target_tokens"])
    adapted = PeftModel.from_pretrained(plain, tmp_path / "out")
    theirs = _logprobs(adapted, datum.tokens, datum.inputs["target_tokens"])
    assert np.abs(theirs - base).max() > 0.01
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    merged = adapted.merge_and_unload()
    np.testing.assert_allclose(ours, _logprobs(merged, datum.tokens, datum.inputs["target_tokens"]), atol=1e-5)


def test_an_external_export_names_the_base_as_asked_and_is_no_state(engine: Engine, tmp_path: Path) -> None:
    create(engine)
    command = SaveSampler(model_id="m", directory=str(tmp_path / "out"), kind="external", base_name="acme/base-1b")
    engine.execute(command)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "acme/base-1b"
    with pytest.raises(CheckpointError, match="only a saved state can be loaded"):
        engine.execute(LoadModel(model_id="n", directory=str(tmp_path / "out"), with_optimizer=False))
    with pytest.raises(InvalidRequestError, match="'gguf'"):
        engine.execute(SaveSampler(model_id="m", directory=str(tmp_path / "other"), kind="gguf"))  # pyright: ignore
