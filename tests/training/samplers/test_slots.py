"""Stacked adapters against PEFT's own forward pass."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file

from metaclaw.errors import CheckpointError
from metaclaw.training.samplers.adapter_files import AdapterWeights, LoraPair, read_adapter
from metaclaw.training.samplers.attention import Segment
from metaclaw.training.samplers.forward import ForwardPass
from metaclaw.training.samplers.kv_rows import KvRow
from metaclaw.training.samplers.slots import LoraSlots, Selection, SlottedLinear
from tests.training.device import DEVICE, TOLERANCE
from tests.training.memory import Memory
from tests.training.samplers.adapters import files_of, peft_model, plain_model, write_adapter
from tests.training.samplers.conftest import Family

HERE = torch.device(DEVICE)


def on_device(weights: AdapterWeights) -> AdapterWeights:
    """The same weights, which a slot on this device then holds without a copy."""
    return {name: LoraPair(down=pair.down.to(HERE), up=pair.up.to(HERE)) for name, pair in weights.items()}


def oracle(family: Family, name: str | None, tokens: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return peft_model(family.base, family.adapters[name] if name else None)(tokens).logits


@pytest.mark.parametrize("which", ["tied", "untied"])
def test_each_row_of_a_mixed_batch_is_what_peft_computes_for_it_alone(
    which: str, request: pytest.FixtureRequest
) -> None:
    family: Family = request.getfixturevalue(which)
    model = plain_model(family.base).to(HERE)
    slots = LoraSlots(model, HERE)
    numbers = {
        name: slots.add(read_adapter(files_of(directory), origin="damaged"))
        for name, directory in family.adapters.items()
    }
    names = list(family.adapters)
    forward = ForwardPass(model, slots, HERE)
    tokens = torch.randint(0, 256, (2 * len(names) + 1, 9), generator=torch.Generator().manual_seed(3))
    rows = [None, *names, *reversed(names)]
    for chosen in (rows, [names[0]] * len(rows), [None] * len(rows), [None, names[-1]] + [None] * (len(rows) - 2)):
        segments = [
            Segment(row=KvRow(9), tokens=line.tolist(), slot=numbers[name] if name else 0)
            for line, name in zip(tokens, chosen, strict=True)
        ]
        with torch.inference_mode():
            logits = forward.run(segments, range(tokens.numel())).cpu().unflatten(0, tokens.shape)
            last = forward.run([replace(one, row=KvRow(9)) for one in segments], range(8, tokens.numel(), 9)).cpu()
        torch.testing.assert_close(last, logits[:, -1], atol=TOLERANCE, rtol=TOLERANCE)
        for row, name in enumerate(chosen):
            expected = oracle(family, name, tokens[row : row + 1])[0]
            torch.testing.assert_close(logits[row], expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_adapters_differ_enough_for_the_comparison_to_mean_something(tied: Family) -> None:
    tokens = torch.arange(8)[None]
    plain = oracle(tied, None, tokens)
    for name in tied.adapters:
        assert (oracle(tied, name, tokens) - plain).abs().max() > 0.1


def test_an_adapter_that_there_is_no_memory_for_leaves_nothing_behind(tied: Family) -> None:
    """Whoever loads it again would find less each time."""
    elsewhere = torch.device("meta")  # so that putting it there makes copies
    slots = LoraSlots(plain_model(tied.base).to(elsewhere), elsewhere)
    weights = read_adapter(files_of(tied.adapters["a"]), origin="damaged")
    size = sum(pair.down.nbytes + pair.up.nbytes for pair in weights.values())
    with Memory(size // 2) as memory:
        with pytest.raises(torch.OutOfMemoryError):
            slots.add(weights)
        assert memory.used == 0
        memory.limit = size
        slots.add(weights)
        assert memory.used == size


@torch.inference_mode()
def test_a_layer_without_memory_for_its_adapters_side_by_side_works_again_when_there_is_some() -> None:
    selection = Selection(HERE)
    layer = SlottedLinear(torch.nn.Linear(8, 4096, device=HERE), selection)
    generator = torch.Generator().manual_seed(0)
    for slot in (1, 2):
        down, up = (torch.randn(shape, generator=generator).to(HERE) for shape in ((4, 8), (4096, 4)))
        layer.put(slot, LoraPair(down=down, up=up))
    inputs = torch.randn(2, 8, generator=generator).to(HERE)
    alone = []
    for slot in (1, 2):
        selection.choose([slot, slot])
        alone.append(layer(inputs)[slot - 1])
    selection.choose([1, 2])
    with Memory(100_000), pytest.raises(torch.OutOfMemoryError):  # for the narrow side of the layer alone
        layer(inputs)
    torch.testing.assert_close(layer(inputs), torch.stack(alone), atol=TOLERANCE, rtol=TOLERANCE)


def test_a_slot_that_is_freed_is_never_given_again(tied: Family) -> None:
    model = plain_model(tied.base).to(HERE)
    slots = LoraSlots(model, HERE)
    first = slots.add(read_adapter(files_of(tied.adapters["a"]), origin="damaged"))
    slots.remove(first)
    second = slots.add(read_adapter(files_of(tied.adapters["b"]), origin="damaged"))
    assert second != first
    tokens = torch.arange(8)[None]
    with torch.inference_mode():
        slots.selection.choose([second] * 8)
        torch.testing.assert_close(
            model(tokens.to(HERE)).logits.cpu(), oracle(tied, "b", tokens), atol=TOLERANCE, rtol=TOLERANCE
        )


def test_what_was_laid_out_when_it_came_is_not_laid_out_again_in_a_pass(tied: Family) -> None:
    """The first pass of a new adapter is one that others wait for: their copies are made before it."""
    model = plain_model(tied.base).to(HERE)
    slots = LoraSlots(model, HERE)
    weights = {name: on_device(read_adapter(files_of(tied.adapters[name]), origin="damaged")) for name in ("a", "b")}
    first = slots.add(weights["a"])
    slots.selection.choose([first] * 8)
    second = slots.add(weights["b"])
    assert sum(1 for _ in slots.lay_out(second)) == len({*weights["a"], *weights["b"]})
    for pair in (*weights["a"].values(), *weights["b"].values()):
        pair.down.zero_()  # what a pass would copy from now on
    tokens = torch.arange(8)[None]
    with torch.inference_mode():
        slots.selection.choose([first] * 4 + [second] * 4)
        mixed = model(tokens.to(HERE)).logits.cpu()
        slots.selection.choose([second] * 8)
        alone = model(tokens.to(HERE)).logits.cpu()
    torch.testing.assert_close(alone, oracle(tied, None, tokens), atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(mixed[:, :4], oracle(tied, "a", tokens)[:, :4], atol=TOLERANCE, rtol=TOLERANCE)
    assert (mixed[:, 4:] - alone[:, 4:]).abs().max() > 0.1


def test_an_adapter_of_another_model_is_refused_and_changes_nothing(tied: Family, untied: Family) -> None:
    model = plain_model(tied.base).to(HERE)
    slots = LoraSlots(model, HERE)
    with pytest.raises(CheckpointError, match="layer"):
        slots.add(read_adapter(files_of(untied.adapters["head"]), origin="damaged"))
    assert not any(type(module).__name__ == "SlottedLinear" for module in model.modules())


@pytest.mark.parametrize(
    "options",
    [{"use_dora": True}, {"alpha_pattern": {"q_proj": 4}}, {"modules_to_save": ["norm"]}],
    ids=lambda options: next(iter(options)),
)
def test_what_is_not_plain_lora_is_refused_by_its_setting(tied: Family, tmp_path: Path, options: dict) -> None:
    directory = write_adapter(tied.base, tmp_path / "odd", seed=9, **options)
    with pytest.raises(CheckpointError, match=next(iter(options))):
        read_adapter(files_of(directory), origin="damaged")


def test_weights_that_are_not_numbers_are_refused(tied: Family, tmp_path: Path) -> None:
    directory = Path(copytree(tied.adapters["a"], tmp_path / "nan"))
    file = directory / "adapter_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match="finite"):
        read_adapter(files_of(directory), origin="damaged")


@pytest.mark.parametrize("damage", ["no config", "config is no JSON", "truncated weights", "one matrix missing"])
def test_a_damaged_adapter_is_refused_by_its_folder(tied: Family, tmp_path: Path, damage: str) -> None:
    directory = Path(copytree(tied.adapters["a"], tmp_path / "damaged"))
    weights = directory / "adapter_model.safetensors"
    if damage == "no config":
        (directory / "adapter_config.json").unlink()
    elif damage == "config is no JSON":
        (directory / "adapter_config.json").write_text(json.dumps({})[:1])
    elif damage == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        tensors = load_file(weights)
        save_file(dict(list(tensors.items())[1:]), weights)
    with pytest.raises(CheckpointError, match="damaged"):
        read_adapter(files_of(directory), origin="damaged")
