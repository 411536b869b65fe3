"""Many adapters on one base: our LoRA layers against PEFT's, and what an idle adapter costs.

``python -m benchmarks.adapters MODEL_FOLDER [--models 8] [--tokens 256] [--rounds 3]`` trains adapters of mixed ranks,
one micro-batch each in turn, by our layers and by PEFT's with ``set_adapter``, round against round over one pair of
bases; then it answers with them, each row of a step by its own adapter, through the sampler's slots and through PEFT's
``adapter_names``. Times are CPU seconds of this process, since wall clock measures the neighbours; quote the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import safetensors.torch
import torch
from peft import LoraConfig, PeftModel
from torch import Tensor, nn

from metaclaw.training.adapters import Adapter, Adapters, AdapterSpec, adapter_files
from metaclaw.training.base_model import LoadedBase, load_base
from metaclaw.training.commands import OptimStep
from metaclaw.training.optimizers import AdapterOptimizer
from metaclaw.training.samplers.adapter_files import read_adapter
from metaclaw.training.samplers.slots import LoraSlots

_RANKS = (4, 8, 16, 32)
_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)  # PEFT's use of an older name
    base = load_base(arguments.model, threads=arguments.threads)
    tokens = torch.randint(0, base.ready.vocab_size, (1, arguments.tokens), generator=torch.Generator().manual_seed(0))
    ours = _Ours(base, arguments.models)
    theirs = _Peft(load_base(arguments.model, threads=arguments.threads), ours.adapters)
    print(f"{base.ready.architecture}, {arguments.models} models of ranks {_RANKS}, {arguments.tokens} tokens a turn")
    print(
        f"largest difference of a gradient, relative to its tensor's largest: {_difference(ours, theirs, tokens):.1e}"
    )
    _compare(ours, theirs, tokens, arguments.rounds)
    _serve(load_base(arguments.model, threads=arguments.threads), ours, theirs)
    with tempfile.TemporaryDirectory() as folder:
        _move(ours, Path(folder))


class _Ours:
    name = "our layers"

    def __init__(self, base: LoadedBase, count: int) -> None:
        self.model: nn.Module = base.model
        self._made = Adapters(base, max_rank=64)
        self.adapters = [self._made.create(_spec(number), seed=number) for number in range(count)]
        for adapter in self.adapters:
            for layer in adapter.layers.values():
                layer.up.data.normal_(0, 0.02)

    def switch(self, number: int) -> None:
        self._made.activate(self.adapters[number])

    def parameters(self, number: int) -> dict[str, nn.Parameter]:
        return self.adapters[number].parameters


class _Peft:
    name = "PEFT"

    def __init__(self, base: LoadedBase, adapters: Sequence[Adapter]) -> None:
        self._parameters: list[dict[str, nn.Parameter]] = []
        for number, adapter in enumerate(adapters):
            spec = adapter.spec
            config = LoraConfig(r=spec.rank, lora_alpha=int(spec.alpha), target_modules=_TARGETS, task_type="CAUSAL_LM")
            if number == 0:
                self.model = PeftModel(base.model, config, adapter_name="a0").eval()
            else:
                self.model.add_adapter(f"a{number}", config)
            mine = {
                key.replace(f".a{number}.", "."): parameter
                for key, parameter in self.model.named_parameters()
                if f".a{number}." in key
            }
            for key, parameter in mine.items():
                parameter.data.copy_(adapter.parameters[key])
            self._parameters.append(mine)

    def switch(self, number: int) -> None:
        self.model.set_adapter(f"a{number}")

    def parameters(self, number: int) -> dict[str, nn.Parameter]:
        return self._parameters[number]


def _spec(number: int) -> AdapterSpec:
    rank = _RANKS[number % len(_RANKS)]
    return AdapterSpec(rank=rank, alpha=32.0, train_mlp=True, train_attn=True, train_unembed=False)


def _pass(side: _Ours | _Peft, tokens: Tensor) -> None:
    hidden = side.model.get_base_model() if isinstance(side, _Peft) else side.model
    output = hidden.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    output.float().square().sum().backward()


def _difference(ours: _Ours, theirs: _Peft, tokens: Tensor) -> float:
    worst = 0.0
    for number in range(len(ours.adapters)):
        for side in (ours, theirs):
            side.switch(number)
            _pass(side, tokens)
        expected = theirs.parameters(number)
        for key, parameter in ours.parameters(number).items():
            assert parameter.grad is not None
            reference = expected[key].grad
            assert reference is not None
            worst = max(worst, float((parameter.grad - reference).abs().max() / reference.abs().max()))
            parameter.grad = expected[key].grad = None
    return worst


def _compare(ours: _Ours, theirs: _Peft, tokens: Tensor, rounds: int) -> None:
    times: dict[str, dict[str, list[float]]] = {side.name: {"switch": [], "pass": []} for side in (ours, theirs)}
    for turn in range(rounds):
        for number in range(len(ours.adapters)):
            for side in (ours, theirs) if (turn + number) % 2 else (theirs, ours):
                times[side.name]["switch"].append(_timed(lambda s=side, n=number: s.switch(n)))
                times[side.name]["pass"].append(_timed(lambda s=side: _pass(s, tokens)))
                for parameter in side.parameters(number).values():
                    parameter.grad = None
    for name, spent in times.items():
        median = {what: statistics.median(values) for what, values in spent.items()}
        print(f"{name}: switch {median['switch'] * 1e3:.3f} ms, forward and backward {median['pass']:.3f} s (medians)")
    total = {name: sum(map(sum, spent.values())) for name, spent in times.items()}
    print(f"PEFT took {total['PEFT'] / total['our layers']:.2f} times as long, switches included")


def _serve(base: LoadedBase, ours: _Ours, theirs: _Peft, *, rows: int = 24, rounds: int = 12) -> None:
    """One decoding step of ``rows`` answers over all adapters, without a cache, which would be the same for both."""
    tokens = torch.arange(rows)[:, None]
    slots = LoraSlots(base.model, base.device)
    files = [adapter_files(adapter, base_name="base") for adapter in ours.adapters]
    numbers = [slots.add(read_adapter(each, origin="an adapter")) for each in files]
    names = [f"a{row % len(numbers)}" for row in range(rows)]
    steps: dict[str, Callable[[], object]] = {
        "base alone": lambda: base.model(input_ids=tokens.T, use_cache=False),
        "slots": lambda: base.model(input_ids=tokens.T, use_cache=False),
        "PEFT": lambda: theirs.model(input_ids=tokens, use_cache=False, adapter_names=names),
    }
    spent: dict[str, list[float]] = {name: [] for name in steps}
    with torch.inference_mode():
        for _ in range(rounds):
            for name, step in steps.items():
                slots.selection.choose([numbers[row % len(numbers)] if name == "slots" else 0 for row in range(rows)])
                spent[name].append(_timed(step))
    shown = ", ".join(f"{name} {statistics.median(values) * 1e3:.0f} ms" for name, values in spent.items())
    print(f"a step of {rows} answers over {len(numbers)} adapters: {shown} (medians)")


def _move(ours: _Ours, folder: Path) -> None:
    """What an idle rank-16 adapter takes after a step, and how long it takes to leave and to come back (wall clock)."""
    adapter = ours.adapters[2]
    optimizer = AdapterOptimizer(adapter.parameters)
    optimizer.begin_pass()
    optimizer.end_pass()
    optimizer.step(OptimStep(model_id="m"))
    here = torch.device("cpu")
    leave, write, read, back = [], [], [], []
    for turn in range(5):
        kept, started = folder / f"{turn}.safetensors", time.perf_counter()
        tensors = optimizer.take_out()
        taken = time.perf_counter()
        safetensors.torch.save_file(tensors, kept)
        written = time.perf_counter()
        mapped = safetensors.torch.load_file(kept)
        loaded = time.perf_counter()
        optimizer.put_back(mapped, here)
        leave.append(taken - started)
        write.append(written - taken)
        read.append(loaded - written)
        back.append(time.perf_counter() - loaded)
    median = [statistics.median(values) * 1e3 for values in (leave, write, read, back)]
    size = optimizer.size_bytes()
    print(f"rank {adapter.spec.rank}: {adapter.num_trainable} weights, {size / 1e6:.1f} MB of weights and moments")
    print("leave {:.1f} ms, write {:.1f} ms, map {:.1f} ms, copy back {:.1f} ms (medians)".format(*median))


def _timed(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
