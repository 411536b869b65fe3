"""Training on our own training server, through the official Tinker SDK.

Owns the SDK's clients, their time limits and their errors; refuses to know what is trained, and why. Invariant: every
future is awaited, no wait outlives ``rl.remote_timeout_s`` for as many tokens as it is meant for, and whatever the SDK
raises becomes a ``BackendError`` that says what to do.

The SDK retries a lost connection for five minutes in submissions and for ever while it polls for a result, and making
its client blocks. So every call starts in a thread of its own, its future is watched from here, and a server that
refuses three connections in a row is given up at once. Cancelling the watched future ends the SDK's retries too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import numpy as np
import tinker

from metaclaw.config import RlSettings
from metaclaw.errors import BackendError, ConfigError
from metaclaw.learner.backends import model_size
from metaclaw.learner.backends.backend import LostStateError, Pass, RefusedDataError, SavedWeights
from metaclaw.learner.backends.patience import TOKENS_AT_ONCE, patience
from metaclaw.learner.datums import AnyGroup, Datum, Floats, Ints, LikelyDatum
from metaclaw.learner.threads import call_in_thread

_log = logging.getLogger(__name__)

PROBE_EVERY_S = 2.0
MAX_MISSED_PROBES = 3
_CLOSE_TIMEOUT_S = 3.0
_PREFIX = "tml-"  # the SDK refuses any other key

T = TypeVar("T")


class SdkFuture(Protocol[T]):
    """The slice of the SDK's futures that is used."""

    def future(self) -> Future[T]: ...


def create(settings: RlSettings) -> TinkerBackend:
    """The backend for ``rl.*``; raises ``ConfigError`` without a URL or a key."""
    key = settings.remote_api_key.get_secret_value()
    if not settings.remote_url:
        raise ConfigError("rl.remote_url is empty: write where the training server listens")
    if not key:
        # Without one the SDK would look for a key of the cloud's and send that to this URL.
        raise ConfigError(
            "rl.remote_api_key is empty: write the key that `metaclaw train-server` printed at its first start and"
            " keeps in train-server/api-key of its METACLAW_HOME"
        )
    link = Link(
        url=settings.remote_url,
        api_key=key if key.startswith(_PREFIX) else _PREFIX + key,
        timeout_s=settings.remote_timeout_s,
    )
    return TinkerBackend(link, base_model=settings.model, rank=settings.lora_rank)


class TinkerBackend:
    """Opens runs, each in an SDK session of its own, so that ending one frees its memory at the server."""

    def __init__(self, link: Link, *, base_model: str, rank: int) -> None:
        self._link = link
        self._base_model = base_model
        self._rank = rank

    async def open(self, state_path: str | None, *, rank: int | None = None) -> TinkerRun:
        """Resume ``state_path`` with its optimiser, or begin a new adapter of the base model."""
        link, new_rank = self._link, rank or self._rank
        service = tinker.ServiceClient(base_url=link.url, api_key=link.api_key)
        try:
            if state_path is None:
                base_model = self._base_model or await self._only_model()
                client = await link.call(
                    f"making an adapter of {base_model!r}",
                    # Not the output layer: where embeddings are tied, that would change the input layer too.
                    lambda: service.create_lora_training_client(base_model, rank=new_rank, train_unembed=False),
                )
            else:
                client = await link.call(
                    f"resuming {state_path}",
                    lambda: service.create_training_client_from_state_with_optimizer(state_path),
                )
        except (BackendError, asyncio.CancelledError) as error:
            await link.close(service)
            cause = error.__cause__
            if state_path is not None and (isinstance(cause, tinker.NotFoundError) or _is_callers_fault(cause)):
                raise LostStateError(str(error)) from cause
            raise
        return TinkerRun(link, service, client)

    async def num_parameters(self, base_model: str) -> int | None:
        """As the server says it, else as the model's name does."""
        return await model_size.num_parameters(self._link.url, self._link.api_key, base_model)

    async def saved_as(self, name: str, *, run: str) -> list[str]:
        """As the server lists it; a run that it does not know has nothing."""
        try:
            listed = await self._link.call(f"looking for {name}", lambda: self._rest_client().list_checkpoints(run))
        except BackendError as error:
            if not isinstance(error.__cause__, tinker.NotFoundError):
                raise
            return []
        return [one.tinker_path for one in listed.checkpoints if one.tinker_path.rpartition("/")[2] == name]

    async def delete(self, paths: Sequence[str]) -> None:
        """Delete checkpoints by path; one that is gone already is no error."""
        for path in paths:
            try:
                await self._link.call(
                    f"deleting {path}",
                    lambda: self._rest_client().delete_checkpoint_from_tinker_path(path),  # noqa: B023 - awaited here
                )
            except BackendError as error:
                if not isinstance(error.__cause__, tinker.NotFoundError):
                    raise

    async def close(self) -> None:
        """Nothing outlives the runs."""

    def _rest_client(self) -> tinker.RestClient:
        return tinker.RestClient(base_url=self._link.url, api_key=self._link.api_key)

    async def _only_model(self) -> str:
        link = self._link
        answer = await link.call("asking for the base model", lambda: self._rest_client().get_server_capabilities())
        names = [model.model_name for model in answer.supported_models if model.model_name]
        if len(names) != 1:
            raise BackendError(f"{link.url} offers {len(names)} base models: name one of {names} in rl.model")
        return names[0]


class TinkerRun:
    """One adapter with its optimiser, live at the server."""

    def __init__(self, link: Link, service: tinker.ServiceClient, client: tinker.TrainingClient) -> None:
        self._link = link
        self._service = service
        self._client = client

    @property
    def id(self) -> str:
        return self._client.model_id

    @property
    def base_model(self) -> str:
        return self._client.get_info().model_data.model_name or ""

    async def forward_backward(self, groups: Sequence[AnyGroup]) -> Pass:
        return await self._passes("forward_backward", self._client.forward_backward, groups)

    async def forward(self, groups: Sequence[AnyGroup]) -> Pass:
        return await self._passes("forward", self._client.forward, groups)

    async def optim_step(self, *, learning_rate: float, grad_clip_norm: float) -> Mapping[str, float]:
        # The SDK's eps of 1e-12 stays: advantages are divided by the tokens of the whole update, so gradients are tiny.
        params = tinker.AdamParams(learning_rate=learning_rate, grad_clip_norm=grad_clip_norm)
        answer = await self._link.call("optim_step", lambda: self._client.optim_step(params))
        return dict(answer.metrics or {})

    async def save(self, name: str) -> SavedWeights:
        state = await self._link.call("save_state", lambda: self._client.save_state(name))
        sampler = await self._link.call("save_weights_for_sampler", lambda: self._client.save_weights_for_sampler(name))
        return SavedWeights(name=name, state_path=state.path, sampler_path=sampler.path)

    async def warm(self, sampler_path: str) -> None:
        sampler = await self._link.call(
            f"loading {sampler_path}", lambda: self._service.create_sampling_client(model_path=sampler_path)
        )
        prompt = tinker.ModelInput.from_ints([0])
        params = tinker.SamplingParams(max_tokens=1, temperature=1.0)
        await self._link.call(f"sampling from {sampler_path}", lambda: sampler.sample(prompt, 1, params))

    async def close(self) -> None:
        await self._link.close(self._service)

    async def _passes(
        self, what: str, submit: Callable[..., SdkFuture[tinker.ForwardBackwardOutput]], groups: Sequence[AnyGroup]
    ) -> Pass:
        logprobs, metrics = list[Floats](), dict[str, float]()
        for group in groups:
            data = [_sdk_datum(datum) for datum in group.data]
            with _told_apart():
                output = await self._link.call(
                    what,
                    lambda: submit(data, group.loss, dict(group.config)),  # noqa: B023 - awaited here
                    times=patience(group.data),
                )
            logprobs += [_target_logprobs(record, datum) for record, datum in _paired(output, group)]
            for key, value in output.metrics.items():
                # Only sums add up over groups; of anything else the last group's stays.
                metrics[key] = value + (metrics.get(key, 0.0) if key.endswith(":sum") else 0.0)
        return Pass(logprobs=tuple(logprobs), metrics=metrics)


class Link:
    """How the server is reached, and for how long it is waited for: longer where it has more to do."""

    def __init__(self, *, url: str, api_key: str, timeout_s: float) -> None:
        self.url = url
        self.api_key = api_key
        self._timeout_s = timeout_s

    async def call(self, what: str, submit: Callable[[], SdkFuture[T]], *, times: float = 1.0) -> T:
        """Start a request of the SDK, which may take so many ``times`` as long, and return its result."""
        if not await self._answers():
            raise self._unreachable(what)
        patience_s = self._timeout_s * times
        with self._explained(what, patience_s):
            async with asyncio.timeout(patience_s):
                future = await call_in_thread(submit, timeout_s=patience_s)
                return await self._watched(what, future.future())

    async def close(self, service: tinker.ServiceClient) -> None:
        """End the SDK's session, so that the server frees its memory.

        What we do not wait for goes on in the SDK's own thread: it tries for five minutes, and its heart, which would
        keep the session alive at a server that comes back, stops in any case.
        """
        wait_s = _CLOSE_TIMEOUT_S if await self._answers() else 0.0
        try:
            with self._explained("ending a training session", _CLOSE_TIMEOUT_S):
                # In a thread, because the SDK holds the lock that this needs while it is still making a connection.
                await call_in_thread(lambda: service.close("success").result(wait_s), timeout_s=_CLOSE_TIMEOUT_S)
        except BackendError as error:
            _log.info("%s", error)

    async def _watched(self, what: str, future: Future[T]) -> T:
        waiting, missed = asyncio.wrap_future(future), 0
        try:
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=PROBE_EVERY_S)
                missed = 0 if waiting.done() or await self._answers() else missed + 1
                if missed == MAX_MISSED_PROBES:
                    raise self._unreachable(what)
            return waiting.result()
        finally:
            waiting.cancel()

    async def _answers(self) -> bool:
        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with asyncio.timeout(PROBE_EVERY_S):
                _, writer = await asyncio.open_connection(parts.hostname, port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    def _unreachable(self, what: str) -> BackendError:
        return BackendError(
            f"{what}: no training server answers at {self.url}. Start `metaclaw train-server`, or correct rl.remote_url"
        )

    @contextmanager
    def _explained(self, what: str, patience_s: float) -> Generator[None]:
        try:
            yield
        except BackendError:
            raise
        except Exception as error:  # a job: the SDK raises TinkerError, ValueError, RuntimeError, httpx's…
            raise self._explanation(what, error, patience_s) from error

    def _explanation(self, what: str, error: Exception, patience_s: float) -> BackendError:
        if isinstance(error, TimeoutError):
            return BackendError(
                f"{what}: {self.url} took longer than {patience_s:g} s (rl.remote_timeout_s: {self._timeout_s:g} s for"
                f" {TOKENS_AT_ONCE:,} tokens)"
            )
        if isinstance(error, tinker.AuthenticationError | tinker.PermissionDeniedError):
            return BackendError(f"{what}: {self.url} refused the key. Set rl.remote_api_key to the key of that server")
        if _is_callers_fault(error):
            return BackendError(f"{what}: {self.url} refused the request: {_said_by_server(error)}")
        return BackendError(f"{what}: {self.url} failed: {type(error).__name__}: {_said_by_server(error)}")


@contextmanager
def _told_apart() -> Generator[None]:
    """Around a pass: a job that failed by its caller's fault was refused for its data.

    A lost model, a used number or a full queue are HTTP errors at submission instead, and say nothing about the data.
    """
    try:
        yield
    except BackendError as error:
        if _is_callers_fault(error.__cause__):
            raise RefusedDataError(str(error)) from error.__cause__
        raise


def _said_by_server(error: Exception) -> str:
    """What the server said is wrong, without what the SDK says around it: ids, its own classes, the answer twice."""
    body = error.body if isinstance(error, tinker.APIStatusError) else None
    if isinstance(body, dict) and isinstance(said := cast("dict[str, Any]", body).get("error"), str):
        return said
    if isinstance(error, tinker.RequestFailedError):
        return str(error).removeprefix("Request failed: ").partition(" for self.request_id=")[0]
    return str(error)


def _is_callers_fault(error: BaseException | None) -> bool:
    return isinstance(error, tinker.RequestFailedError) and error.category.value == "user"


def _sdk_datum(datum: Datum | LikelyDatum) -> tinker.Datum:
    arrays: dict[str, Any] = {"target_tokens": _targets(datum)}
    if isinstance(datum, Datum):
        arrays |= {"logprobs": datum.ratios_from_T, "advantages": datum.advantages_T}
    else:
        arrays |= {"weights": datum.likely.weights_TK}
    return tinker.Datum(model_input=tinker.ModelInput.from_ints(datum.tokens_T.tolist()), loss_fn_inputs=arrays)


def _targets(datum: Datum | LikelyDatum) -> Ints:
    return datum.targets_T if isinstance(datum, Datum) else datum.likely.targets_TK


def _paired(
    output: tinker.ForwardBackwardOutput, group: AnyGroup
) -> list[tuple[Mapping[str, Any], Datum | LikelyDatum]]:
    if len(output.loss_fn_outputs) != len(group.data):
        raise BackendError(f"the trainer answered {len(output.loss_fn_outputs)} sequences for {len(group.data)}")
    return list(zip(output.loss_fn_outputs, group.data, strict=True))


def _target_logprobs(record: Mapping[str, Any], datum: Datum | LikelyDatum) -> Floats:
    if "logprobs" not in record:
        raise BackendError("the trainer's answer has no log-probabilities")
    logprobs = np.asarray(record["logprobs"].to_numpy(), np.float32)
    if logprobs.shape != (wanted := _targets(datum).shape):
        raise BackendError(f"the trainer answered log-probabilities of shape {logprobs.shape} for {wanted}")
    return logprobs
