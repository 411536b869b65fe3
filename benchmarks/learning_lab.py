"""The training server's engine and sampler in this process, for many short trainings of one small model.

Owns the two models, the adapters that are trained and how text becomes tokens; refuses to know recipes and rewards.
Invariant: what is drawn comes from the sampler's own loop and what is trained goes through the engine's own commands,
so only processes and HTTP are missing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from metaclaw.learner.backends.backend import Pass, SavedWeights
from metaclaw.learner.datums import AnyGroup, Datum, Floats, LikelyDatum
from metaclaw.learner.distillation.lessons import Likeliest
from metaclaw.training import commands
from metaclaw.training.base_model import load_base
from metaclaw.training.engine import Engine, EngineOptions
from tests.training.samplers.loops import LocalLoop

BASE = "base"  # an adapter that was never trained: the base model to the last bit
RANK = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the sampler drew for one prompt. ``logprobs`` as sampled, ``logprobs_full`` at temperature 1."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: Floats
    logprobs_full: Floats
    text: str
    stop_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A prompt, and the seed of its answer."""

    prompt: tuple[int, ...]
    seed: int


class Lab:
    """One base model twice: an engine and a sampler over it."""

    def __init__(self, model: Path, folder: Path, *, max_rows: int = 48) -> None:
        torch.set_num_threads(1)
        self._folder = folder
        self._names = count(1)
        self._created = set[str]()
        self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False, local_files_only=True)
        self._engine = Engine(load_base(model, device="cpu", dtype="float32", threads=1), EngineOptions())
        self._sampler = LocalLoop(model, max_concurrent=max_rows)
        self.create(BASE, seed=0)

    def prompt(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """The prompt that asks for an answer to ``messages``."""
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def written(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """A whole conversation as the template writes it."""
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False)
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    # The engine

    def has(self, name: str) -> bool:
        return name in self._created

    def create(self, name: str, *, seed: int) -> None:
        self._created.add(name)
        self._engine.execute(commands.CreateModel(model_id=name, rank=RANK, seed=seed, train_unembed=False))

    def unload(self, name: str) -> None:
        self._created.discard(name)
        self._engine.execute(commands.UnloadModel(model_id=name))

    def forward_backward(self, name: str, groups: Sequence[AnyGroup], *, learns: bool = True) -> list[Floats]:
        """Log-probabilities of every target; with ``learns`` the gradients add up."""
        logprobs = list[Floats]()
        for group in groups:
            data = tuple(
                commands.Datum(tokens=datum.tokens_T.astype(np.int32), inputs=_inputs(datum)) for datum in group.data
            )
            command = commands.ForwardBackward(
                model_id=name, data=data, loss=group.loss, config=dict(group.config), forward_only=not learns
            )
            logprobs += [np.asarray(values, np.float32) for values in self._engine.execute(command)["logprobs"]]
        return logprobs

    def score(
        self, name: str, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, temperature: float = 1.0
    ) -> list[Floats]:
        """Log-probabilities of the answer's tokens of each (prompt, answer)."""
        command = commands.ForwardBackward(
            model_id=name, data=tuple(_read(*pair) for pair in pairs), loss="cross_entropy", forward_only=True,
            config={"temperature": temperature, "logprobs": 0},
        )  # fmt: skip
        scored = self._engine.execute(command)["logprobs"]
        return [
            np.asarray(values, np.float32)[len(prompt) - 1 :] for values, (prompt, _) in zip(scored, pairs, strict=True)
        ]

    def read(self, name: str, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
        """Gradients of what each answer costs, a token of all of them as much as any other."""
        weight = 1 / sum(len(answer) for _, answer in pairs)
        data = tuple(_read(*pair, weight) for pair in pairs)
        self._engine.execute(commands.ForwardBackward(model_id=name, data=data, loss="cross_entropy", config={}))

    def optim_step(self, name: str, *, learning_rate: float, grad_clip_norm: float) -> float:
        """One step; returns the norm of the gradients before they were clipped."""
        step = commands.OptimStep(model_id=name, learning_rate=learning_rate, grad_clip_norm=grad_clip_norm)
        return float(self._engine.execute(step)["metrics"]["grad_norm"])

    def save_state(self, name: str) -> Path:
        directory = self._folder / f"state-{next(self._names)}"
        self._engine.execute(commands.SaveState(model_id=name, directory=str(directory)))
        return directory

    def load_state(self, name: str, directory: Path) -> None:
        self._engine.execute(commands.LoadModel(model_id=name, directory=str(directory), with_optimizer=True))

    # The sampler

    def publish(self, name: str) -> str:
        """Hand the weights of ``name`` to the sampler; returns what it calls them."""
        adapter = f"{name}-{next(self._names)}"
        directory = self._folder / adapter
        self._engine.execute(commands.SaveSampler(model_id=name, directory=str(directory)))
        answer = self._sampler.ask(commands.LoadAdapter(adapter_id=adapter, directory=str(directory)))
        if answer.end is None or "error" in answer.end:
            raise RuntimeError(f"the sampler refused an adapter: {answer.end}")
        self._sampler.answers.by_id.clear()
        shutil.rmtree(directory)
        return adapter

    def likeliest(
        self, adapter: str | None, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, top: int
    ) -> list[tuple[Floats, Likeliest]]:
        """Of each (prompt, answer) how likely the answer's tokens are, and the ``top`` likeliest beside them."""
        frames = [
            self._sampler.post(
                commands.Generate(
                    adapter_id=adapter, prompt=np.asarray([*prompt, *answer], np.int32), max_tokens=0,
                    prompt_logprobs=True, topk_prompt_logprobs=top,
                )
            )
            for prompt, answer in pairs
        ]  # fmt: skip
        found = list[tuple[Floats, Likeliest]]()
        for (prompt, answer), told in zip(pairs, self._sampler.run(*frames), strict=True):
            logprobs_N, tokens_NK, logprobs_NK = (
                told.prompt[key][len(prompt) :] for key in ("logprobs", "topk_tokens", "topk_logprobs")
            )
            drawn_N1 = np.asarray(answer, np.int64)[:, None]
            drawn_logprobs_N = np.where((tokens_NK == drawn_N1).any(axis=1), -np.inf, logprobs_N)
            likeliest = Likeliest(
                tokens_NK=np.hstack([tokens_NK, drawn_N1]).astype(np.int64),
                logprobs_NK=np.hstack([logprobs_NK, drawn_logprobs_N[:, None]]).astype(np.float32),
            )
            found.append((logprobs_N, likeliest))
        self._sampler.answers.by_id.clear()
        return found

    def withdraw(self, adapter: str) -> None:
        self._sampler.ask(commands.UnloadAdapter(adapter_id=adapter))
        self._sampler.answers.by_id.clear()

    def draw(self, adapter: str | None, asks: Sequence[Ask], *, temperature: float, max_tokens: int) -> list[Answer]:
        """An answer to each, all drawn together."""
        frames = [
            self._sampler.post(
                commands.Generate(
                    adapter_id=adapter, prompt=np.asarray(ask.prompt, np.int32), max_tokens=max_tokens,
                    temperature=temperature, seed=ask.seed,
                )
            )
            for ask in asks
        ]  # fmt: skip
        answers = self._sampler.run(*frames)
        drawn = list[Answer]()
        for ask, answer in zip(asks, answers, strict=True):
            tokens = answer.tokens()
            drawn.append(
                Answer(
                    prompt=ask.prompt, tokens=tuple(tokens), logprobs=answer.column("logprobs"),
                    logprobs_full=answer.column("logprobs_full"), stop_reason=answer.stop_reason(),
                    text=str(self.tokenizer.decode(tokens, skip_special_tokens=True)),
                )
            )  # fmt: skip
        self._sampler.answers.by_id.clear()
        return drawn


def _inputs(datum: Datum | LikelyDatum) -> dict[str, np.ndarray]:
    if isinstance(datum, LikelyDatum):
        return {"target_tokens": datum.likely.targets_TK, "weights": datum.likely.weights_TK}
    return {"target_tokens": datum.targets_T, "logprobs": datum.ratios_from_T, "advantages": datum.advantages_T}


def _read(prompt: Sequence[int], answer: Sequence[int], weight: float = 1.0) -> commands.Datum:
    tokens = np.asarray([*prompt, *answer])
    weights = np.zeros(tokens.size - 1, np.float32)
    weights[len(prompt) - 1 :] = weight
    return commands.Datum(tokens=tokens[:-1].astype(np.int32), inputs={"target_tokens": tokens[1:], "weights": weights})


class LabRun:
    """An adapter of a lab, as what the learner takes its steps with."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab = lab
        self._name = name

    @property
    def id(self) -> str:
        return self._name

    @property
    def base_model(self) -> str:
        return BASE

    async def forward_backward(self, groups: Sequence[AnyGroup]) -> Pass:
        return Pass(logprobs=tuple(self._lab.forward_backward(self._name, groups)), metrics={})

    async def forward(self, groups: Sequence[AnyGroup]) -> Pass:
        return Pass(logprobs=tuple(self._lab.forward_backward(self._name, groups, learns=False)), metrics={})

    async def optim_step(self, *, learning_rate: float, grad_clip_norm: float) -> Mapping[str, float]:
        norm = self._lab.optim_step(self._name, learning_rate=learning_rate, grad_clip_norm=grad_clip_norm)
        return {"grad_norm": norm}

    async def save(self, name: str) -> SavedWeights:
        raise NotImplementedError("a benchmark's weights are handed over by Lab.publish")

    async def warm(self, sampler_path: str) -> None:
        raise NotImplementedError("a benchmark's weights are handed over by Lab.publish")

    async def close(self) -> None:
        """The lab's own adapters stay until ``Lab.unload``."""


class LabBackend:
    """A lab, as what the learner opens the base model with."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    async def open(self, state_path: str | None, *, rank: int | None = None) -> LabRun:
        if state_path is not None or rank not in {None, RANK}:
            raise NotImplementedError("a benchmark opens nothing but the base model")
        return LabRun(self._lab, BASE)

    async def num_parameters(self, base_model: str) -> int | None:
        return None

    async def saved_as(self, name: str, *, run: str) -> list[str]:
        raise NotImplementedError("a benchmark saves nothing under a name")

    async def delete(self, paths: Sequence[str]) -> None:
        raise NotImplementedError("a benchmark saves nothing under a path")
