"""The cookbook's own training loops, unchanged, run by the Python of .venv-cookbook: supervised, then reinforcement.

    TINKER_BASE_URL=... TINKER_API_KEY=tml-... \
    .venv-cookbook/bin/python tests/clients/cookbook_client.py <model> <folder>

Ours are the data and the environment only. It asserts what it can see and prints the rest as one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import chz
import tinker
from tinker_cookbook import renderers
from tinker_cookbook.rl import train as rl
from tinker_cookbook.rl.problem_env import ProblemEnv, ProblemGroupBuilder
from tinker_cookbook.rl.types import EnvGroupBuilder, RLDataset, RLDatasetBuilder
from tinker_cookbook.supervised import train as sft
from tinker_cookbook.supervised.data import FromConversationFileBuilder
from tinker_cookbook.supervised.types import ChatDatasetBuilderCommonConfig
from tinker_cookbook.tokenizer_utils import get_tokenizer

RENDERER = "role_colon"


class SayAs(ProblemEnv):
    """Answers with many an 'a' are good ones: a reward that chance finds, and training can raise."""

    def get_question(self) -> str:
        return "Say a"

    def check_answer(self, sample_str: str) -> float:
        return sample_str.count("a") / max(1, len(sample_str))

    def check_format(self, sample_str: str) -> bool:
        return True

    def get_reference_answer(self) -> str:
        return "aaaa"


class Questions(RLDataset):
    def __init__(self, builder: EnvGroupBuilder, num_batches: int) -> None:
        self._builder = builder
        self._num_batches = num_batches

    def get_batch(self, index: int) -> Sequence[EnvGroupBuilder]:
        return [self._builder, self._builder]

    def __len__(self) -> int:
        return self._num_batches


@chz.chz
class QuestionsBuilder(RLDatasetBuilder):
    model: str
    num_batches: int

    async def __call__(self) -> tuple[RLDataset, RLDataset | None]:
        renderer = renderers.get_renderer(RENDERER, get_tokenizer(self.model))
        env = partial(SayAs, renderer, format_coef=0.0)
        return Questions(ProblemGroupBuilder(env_thunk=env, num_envs=8), self.num_batches), None


def supervised(model: str, folder: Path) -> None:
    conversation = {"messages": [{"role": "user", "content": "Say a"}, {"role": "assistant", "content": "aaaa"}]}
    data = folder / "conversations.jsonl"
    data.write_text("\n".join([json.dumps(conversation)] * 8))
    common = ChatDatasetBuilderCommonConfig(
        model_name_for_tokenizer=model, renderer_name=RENDERER, max_length=200, batch_size=2,
        train_on_what=renderers.TrainOnWhat.ALL_ASSISTANT_MESSAGES,
    )  # fmt: skip
    dataset = FromConversationFileBuilder(common_config=common, file_path=str(data))
    config = sft.Config(
        log_path=str(folder / "sft"), model_name=model, recipe_name="local_sft", renderer_name=RENDERER,
        dataset_builder=dataset, learning_rate=1e-2, lr_schedule="constant", num_epochs=1, lora_rank=4, save_every=2,
        eval_every=0,
    )  # fmt: skip
    asyncio.run(sft.main(config))


def reinforcement(model: str, folder: Path, start: str) -> None:
    config = rl.Config(
        log_path=str(folder / "rl"), model_name=model, recipe_name="local_rl", renderer_name=RENDERER,
        dataset_builder=QuestionsBuilder(model=model, num_batches=16), learning_rate=2e-3, max_tokens=8, lora_rank=4,
        eval_every=0, save_every=2, loss_fn="importance_sampling", load_checkpoint_path=start,
    )  # fmt: skip
    asyncio.run(rl.main(config))


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def main(model: str, folder: Path) -> None:
    supervised(model, folder)
    saved = rows(folder / "sft" / "checkpoints.jsonl")
    reinforcement(model, folder, str(saved[-1]["state_path"]))
    steps = [row for row in rows(folder / "rl" / "metrics.jsonl") if "grad_norm" in row]
    result = {
        "sdk": tinker.__version__,
        "nll": [row["train_mean_nll"] for row in rows(folder / "sft" / "metrics.jsonl")],
        "sft_checkpoints": saved,
        "reward": [row["env/all/reward/total"] for row in steps],
        "kl": [row["optim/kl_sample_train_v1"] for row in steps],
        "rl_checkpoints": rows(folder / "rl" / "checkpoints.jsonl"),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
