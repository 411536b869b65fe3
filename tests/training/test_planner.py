"""The plan: its shapes against the real models, its figures against each other, and what it proposes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from metaclaw.config import TrainServerSettings
from metaclaw.errors import ModelSourceError
from metaclaw.training import engine, logprobs, planner
from metaclaw.training.api.hub import described_folder
from metaclaw.training.devices import Assignment, WorkerDevices
from metaclaw.training.model_shape import ModelShape, read_shape
from metaclaw.training.planner_report import as_json, as_text, make_plan
from metaclaw.training.samplers import process
from tests.cli.programs import metaclaw
from tests.fakes.tiny_model import make_tiny_model, make_untied_model

QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288,
    "vocab_size": 151936, "max_position_embeddings": 40960, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
CPU = WorkerDevices(torch_name="cpu")
ON_CPU = Assignment(training=CPU, inference=CPU)


@pytest.fixture
def qwen(tmp_path: Path) -> ModelShape:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_8B))
    return read_shape(tmp_path, "Qwen3-8B")


@pytest.mark.parametrize("make", [make_tiny_model, make_untied_model])
def test_the_shape_is_that_of_the_loaded_model(tmp_path: Path, make):
    folder = make(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder)
    shape = read_shape(folder, "m")
    linear = [m for n, m in model.named_modules() if type(m).__name__ == "Linear" and "lm_head" not in n]
    assert shape.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.adapted_widths == sum(layer.in_features + layer.out_features for layer in linear)
    assert shape.stored_dtype == "F32"
    (folder / "model.safetensors").unlink()
    implied = read_shape(folder, "m")
    assert implied.source == "config"
    assert implied.num_parameters == pytest.approx(shape.num_parameters, rel=0.01)
    assert implied.adapted_widths == shape.adapted_widths


def test_the_configuration_alone_gives_an_8b_models_parameters(qwen: ModelShape):
    assert qwen.num_parameters == pytest.approx(8_190_735_360, rel=1e-4)  # as its own files say
    assert qwen.kv_bytes_per_token(2) == 147_456
    assert qwen.adapter_parameters(32) == 87_293_952


def test_the_constants_are_those_of_the_engine_and_the_sampler():
    assert planner.BATCH_TOKENS == engine._BATCH_TOKENS  # pyright: ignore[reportPrivateUsage]
    assert planner.LOGITS_CHUNK == logprobs._MAX_LOGITS  # pyright: ignore[reportPrivateUsage]
    chunks = process._CHUNKS  # pyright: ignore[reportPrivateUsage]
    assert {kind: limits.idle for kind, limits in chunks.items()} == planner.PREFILL_TOKENS
    assert planner.SCORED_LOGITS == process._MAX_LOGITS  # pyright: ignore[reportPrivateUsage]
    assert planner.KEPT_SHARE == process._KEPT_SHARE  # pyright: ignore[reportPrivateUsage]
    assert planner.CACHE_SHARE == process._CACHE_SHARE  # pyright: ignore[reportPrivateUsage]


def test_two_processes_on_a_cpu_count_the_mapped_base_once(tmp_path: Path):
    shape = read_shape(make_tiny_model(tmp_path / "m"), "m")
    for dtype, num_bases in (("float32", 1), ("bfloat16", 2)):
        (device,) = make_plan(shape, TrainServerSettings(dtype=dtype), ON_CPU, memory_gb=None).devices
        sizes = [item.size_bytes for item in device.items if item.name == "base weights"]
        assert sum(size > 0 for size in sizes) == num_bases


def test_on_a_24_gb_card_only_what_this_release_can_do_is_proposed(qwen: ModelShape):
    plan = make_plan(qwen, TrainServerSettings(), ON_CPU, memory_gb=24)
    assert not plan.fits
    assert any("second GPU" in proposal for proposal in plan.proposals)
    assert any("--inference-devices cpu" in proposal for proposal in plan.proposals)
    text = as_text(plan)
    assert "DOES NOT FIT" in text
    assert "Not in this release: a quantised base" in text
    assert not any("quantised" in proposal for proposal in plan.proposals)


def test_vllm_is_planned_as_what_it_is_a_copy_of_the_base_on_a_gpu_of_its_own(qwen: ModelShape):
    settings = TrainServerSettings.model_validate(
        {"sampler": "vllm", "max_lora_rank": 48, "max_context": 4096, "gradient_checkpointing": "on"}
    )
    plan = make_plan(qwen, settings, ON_CPU, memory_gb=48)
    assert plan.fits
    engine, sampler = plan.devices
    sizes = {item.name: item.size_bytes for item in sampler.items}
    assert engine.name.startswith("engine")
    assert sizes["base weights"] == qwen.num_parameters * 2
    assert sizes["adapters"] == 4 * qwen.adapter_parameters(64) * 2  # vLLM knows no rank 48
    assert sizes["KV cache"] == 4096 * qwen.kv_bytes_per_token(2)
    small = make_plan(qwen, settings, ON_CPU, memory_gb=12)
    assert not small.fits
    assert all("--inference-devices cpu" not in each or "--sampler transformers" in each for each in small.proposals)


def test_a_proposal_that_is_followed_fits(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_8B | {"num_hidden_layers": 10}))
    shape = read_shape(tmp_path, "a smaller one")
    asked = {"max_context": 32768, "gradient_checkpointing": "off"}
    plan = make_plan(shape, TrainServerSettings.model_validate(asked), ON_CPU, memory_gb=24)
    assert not plan.fits
    words = plan.proposals[0].split("   ")[0].split()
    flags = {
        name.removeprefix("--").replace("-", "_"): value for name, value in zip(words[::2], words[1::2], strict=True)
    }
    assert make_plan(shape, TrainServerSettings.model_validate(asked | flags), ON_CPU, memory_gb=24).fits


@given(st.integers(1, 64), st.integers(256, 32768), st.integers(1, 128), st.booleans())
def test_more_of_anything_never_needs_less(rows: int, context: int, rank: int, checkpointing: bool):
    shape = ModelShape(
        name="m", num_parameters=10**9, stored_dtype="BF16", num_layers=20, hidden=1024, intermediate=4096,
        num_heads=16, num_kv_heads=4, head_dim=64, vocab_size=50_000, max_context=32768, adapted_widths=10**6,
        source="config",
    )  # fmt: skip
    load = planner.Workload(
        kind="cuda", base_bytes=2, rank=rank, context=context, rows=rows, checkpointing=checkpointing
    )

    def needed(asked: planner.Workload) -> int:
        sampler = planner.sampler_items(shape, asked, maps_the_engines_weights=False)
        return planner.total_bytes(planner.engine_items(shape, asked) + sampler)

    here = needed(load)
    for more in ({"rows": rows + 1}, {"context": context + 512}, {"rank": rank + 1}, {"num_trained": 2}):
        assert needed(replace(load, **more)) >= here  # pyright: ignore
    assert needed(replace(load, checkpointing=True)) <= needed(replace(load, checkpointing=False))


def test_the_command_answers_programs_and_starts_nothing(tmp_path: Path):
    model = make_tiny_model(tmp_path / "m")
    arguments = ("train-server", "--plan", "--base-model", str(model), "--data-dir", str(tmp_path / "data"))
    done = metaclaw(tmp_path, *arguments, "--json")
    plan = json.loads(done.stdout)
    assert done.returncode == 0
    assert plan["fits"] is True
    assert plan["devices"][0]["needed_bytes"] == sum(item["size_bytes"] for item in plan["devices"][0]["items"])
    assert not (tmp_path / "data").exists()
    assert metaclaw(tmp_path, *arguments, "--memory-gb", "0.2").returncode == 1


def test_a_plan_downloads_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelSourceError, match="a plan downloads nothing"):
        described_folder("nobody/no-such-model")


def test_json_holds_no_more_than_json_can(qwen: ModelShape):
    plan = make_plan(qwen, TrainServerSettings(), ON_CPU, memory_gb=80)
    assert json.loads(json.dumps(as_json(plan)))["model"]["num_layers"] == 36
