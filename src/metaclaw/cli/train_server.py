"""``metaclaw train-server``: serve and train adapters on this machine's GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from metaclaw.config import Settings


_OF_THIS_RUN = ("plan", "json_output", "memory_gb")  # flags that are no settings


def train_server(
    base_model: Annotated[
        str | None, typer.Option(help="Hugging Face id, folder or 'smollm2'; default rl.model.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; beyond loopback --api-key is needed.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    api_key: Annotated[
        str | None, typer.Option(help="Key; better METACLAW_TRAIN_API_KEY, which `ps` does not show.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where adapters and checkpoints live.")] = None,
    training_devices: Annotated[str | None, typer.Option(help="Where the engine trains: auto, cpu or cuda:N.")] = None,
    inference_devices: Annotated[
        str | None, typer.Option(help="Where the sampler runs: auto, cpu or GPUs like cuda:1.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    engine_threads: Annotated[int | None, typer.Option(help="CPU threads of the engine.")] = None,
    sampler_threads: Annotated[int | None, typer.Option(help="CPU threads of the sampler.")] = None,
    max_context: Annotated[int | None, typer.Option(help="Longest sequence in tokens.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="Sequences decoded at once.")] = None,
    prefix_cache_mb: Annotated[int | None, typer.Option(help="MB kept of ended answers; 0 none, -1 measured.")] = None,
    max_queued: Annotated[int | None, typer.Option(help="Sampling requests that may wait.")] = None,
    max_queued_tokens: Annotated[int | None, typer.Option(help="Tokens that may wait, of either kind.")] = None,
    max_queued_mb: Annotated[int | None, typer.Option(help="Training data that may wait.")] = None,
    max_lora_rank: Annotated[int | None, typer.Option(help="Largest adapter rank.")] = None,
    max_import_mb: Annotated[int | None, typer.Option(help="Largest checkpoint from elsewhere.")] = None,
    adapter_memory_mb: Annotated[int | None, typer.Option(help="GPU memory for adapters in MiB.")] = None,
    adapter_host_memory_mb: Annotated[int | None, typer.Option(help="Main memory for adapters in MiB.")] = None,
    max_batch_tokens: Annotated[int | None, typer.Option(help="Tokens trained on at once.")] = None,
    gradient_checkpointing: Annotated[str | None, typer.Option(help="auto, on or off.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Say what fits the devices' memory, and start nothing.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="With --plan: for programs.")] = False,
    memory_gb: Annotated[
        float | None, typer.Option(help="With --plan: for another machine, a GPU of so many GB.", min=0.1)
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="transformers, or vllm: see `metaclaw vllm prepare`.")] = None,
    vllm_python: Annotated[Path | None, typer.Option(help="Python that has vLLM; default the prepared one.")] = None,
    vllm_max_loras: Annotated[int | None, typer.Option(help="Adapters in one batch of vLLM.")] = None,
    vllm_kv_cache_gb: Annotated[float | None, typer.Option(help="Memory of vLLM's KV cache.")] = None,
    vllm_args: Annotated[str | None, typer.Option(help="More arguments of vLLM, in one string.")] = None,
) -> None:
    """Run the training server until Ctrl-C. It speaks the Tinker API, and OpenAI's for chat."""
    given = {f"train_server.{name}": value for name, value in locals().items() if name not in _OF_THIS_RUN}
    if data_dir is not None:  # typed in a shell, it is seen from there; in the file, from the home
        given["train_server.data_dir"] = data_dir.expanduser().absolute()
    if vllm_python is not None:
        given["train_server.vllm_python"] = vllm_python.expanduser().absolute()

    from metaclaw.config_file import load_settings, read_settings
    from metaclaw.config_keyring import resolve_secrets
    from metaclaw.extras import load_backend
    from metaclaw.logs import configure_logs
    from metaclaw.training.server_key import stored_key

    configure_logs("api")
    settings = load_settings(overrides=given)
    if plan:
        _show_plan(settings, as_json=json_output, memory_gb=memory_gb)
        return
    server = load_backend("metaclaw.training.api.server", extra="rl")
    if not settings.train_server.api_key.get_secret_value():
        key, is_new = stored_key(settings.train_server_dir)
        settings, _ = read_settings(overrides=given | {"train_server.api_key": key})  # the warnings were logged
        where = settings.train_server_dir / "api-key"
        typer.echo(f"key of this server, shown once and kept in {where}: {key}" if is_new else f"key: as in {where}")
    server.serve(resolve_secrets(settings))


def _show_plan(settings: Settings, *, as_json: bool, memory_gb: float | None) -> None:
    """Exit code 0 when it fits, 1 when it does not."""
    import json

    from metaclaw.training import planner_report
    from metaclaw.training.api import hub
    from metaclaw.training.devices import assign_devices
    from metaclaw.training.model_shape import read_shape

    server = settings.train_server
    devices = assign_devices(server, sampler=server.sampler)
    name = server.base_model or settings.rl.model
    shape = read_shape(hub.described_folder(name), name)
    plan = planner_report.make_plan(shape, server, devices, memory_gb=memory_gb)
    typer.echo(json.dumps(planner_report.as_json(plan), indent=2) if as_json else planner_report.as_text(plan))
    if not plan.fits:
        raise typer.Exit(1)
