"""What a user of MinT's SDK does, run by the Python of .venv-mint: train, resume, sample, download.

    MINT_BASE_URL=... MINT_API_KEY=... .venv-mint/bin/python tests/clients/mint_client.py <base model>

It asserts what it can see and prints the rest as one JSON object.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import urllib.request

import mint as tinker
from mint import types

ADAM = types.AdamParams(learning_rate=1e-2)
PROMPT = types.ModelInput.from_ints([1, 2, 3])


def datum(tokens: list[int]) -> types.Datum:
    inputs = {"target_tokens": tokens[1:], "weights": [1.0] * (len(tokens) - 1)}
    return types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)


DATA = [datum([1, 2, 3, 4, 5, 6]), datum([9, 8, 7])]


def train(client: tinker.TrainingClient, steps: int) -> list[float]:
    losses: list[float] = []
    for _ in range(steps):
        result = client.forward_backward(DATA, "cross_entropy")
        client.optim_step(ADAM).result()
        outputs = result.result().loss_fn_outputs
        assert [output["logprobs"].shape for output in outputs] == [[5], [2]], outputs
        losses.append(result.result().metrics["loss:sum"])
    return losses


def policy_loss(client: tinker.TrainingClient, sampler: tinker.SamplingClient) -> float:
    """One importance-sampling pass on a sample: with ratios of one it is minus the number of tokens."""
    params = types.SamplingParams(max_tokens=8, temperature=1.0, seed=3, stop=[])
    sequence = sampler.sample(PROMPT, 1, params).result().sequences[0]
    tokens = [1, 2, 3, *sequence.tokens]
    inputs = {
        "target_tokens": tokens[1:],
        "logprobs": [0.0, 0.0, *sequence.logprobs],
        "advantages": [0.0, 0.0] + [1.0] * len(sequence.tokens),
    }
    data = [types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)]
    return client.forward_backward(data, "importance_sampling").result().metrics["loss:sum"] / len(sequence.tokens)


def main(base_model: str) -> None:
    service = tinker.ServiceClient()
    models = [model.model_name for model in service.get_server_capabilities().supported_models]
    client = service.create_lora_training_client(base_model=base_model, rank=4, seed=7)
    losses = train(client, 4)
    state = client.save_state("after-4").result().path
    expected = client.forward(DATA, "cross_entropy").result().metrics["loss:sum"]

    resumed = service.create_training_client_from_state_with_optimizer(state)
    assert abs(resumed.forward(DATA, "cross_entropy").result().metrics["loss:sum"] - expected) < 1e-4
    losses += train(resumed, 1)

    path = resumed.save_weights_for_sampler("v1").result().path
    sampler = service.create_sampling_client(model_path=path)
    ephemeral = resumed.save_weights_and_get_sampling_client("v2")
    params = types.SamplingParams(max_tokens=6, temperature=0.7, seed=5, stop=[])
    answer = sampler.sample(PROMPT, 2, params, include_prompt_logprobs=True, topk_prompt_logprobs=2).result()
    again = ephemeral.sample(PROMPT, 2, params).result()

    rest = service.create_rest_client()
    info = rest.get_weights_info_by_tinker_path(state).result()
    url = rest.get_checkpoint_archive_url_from_tinker_path(path).result().url
    with urllib.request.urlopen(url) as download:  # no key: the address itself is the permission
        packed = io.BytesIO(download.read())
    with tarfile.open(fileobj=packed, mode="r:gz") as archive:
        files = archive.getnames()
    saved = rest.list_checkpoints(resumed.get_info().model_id).result().checkpoints
    result = {
        "sdk": tinker.__version__, "tinker": tinker.__tinker_version__, "models": models, "losses": losses,
        "resumed_rank": info.lora_rank, "files": sorted(files), "policy_loss": policy_loss(resumed, ephemeral),
        "scored": len(sampler.compute_logprobs(PROMPT).result()),
        "prompt_logprobs": len(answer.prompt_logprobs or []),
        "sampled": [len(sequence.tokens) for sequence in answer.sequences],
        "same_tokens": [s.tokens for s in answer.sequences] == [s.tokens for s in again.sequences],
        "checkpoints": [checkpoint.checkpoint_id for checkpoint in saved],
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
