"""``metaclaw setup``: the questions, and config.yaml from the answers.

Owns what is asked and in which order; refuses to know how the file is written. Invariant: only the keys that were
asked about change, and a token is made once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.setup_program import ask_for_program, known_name, offer_to_connect

if TYPE_CHECKING:
    from metaclaw.config import Settings

_MODES = "skills_only: your model answers, with skills. rl: a model that you train answers. auto: rl while you are away"
_CONSENT = """Mode {mode} answers with the small model that is trained ({model}) in place of the strong one behind your
agent. It starts weaker than what you are used to, and learns from how its answers are judged."""
_NO_JUDGE = """NO JUDGE: nothing scores the answers, so nothing will be trained. Set rl.judge.verifier (a Python
function), or rl.judge.url, rl.judge.model and rl.judge.api_key (an LLM), and start again."""


@dataclass(frozen=True, slots=True)
class Question:
    """One setting that is asked for."""

    key: str
    text: str
    is_secret: bool = False


_ALWAYS = (Question("proxy.port", "Port of the gateway"),)
_UPSTREAM = (
    Question("llm.provider", "Provider ({providers}; or custom, by its URL)"),
    Question("llm.api_base", "Base URL of an OpenAI-compatible API (ends in /v1)"),
    Question("llm.model_id", "Model"),
    Question("llm.api_key", "API key", is_secret=True),
)
_SERVER = (
    Question("rl.model", "Base model to train: a Hugging Face id, a folder, or smollm2"),
    Question("rl.remote_url", "URL of the training server"),
    Question(
        "rl.remote_api_key",
        "Key of the training server (empty: make one, when it runs on this machine)",
        is_secret=True,
    ),
)
_CLOUD = (
    Question("rl.model", "Base model to train, as the training cloud calls it"),
    Question("rl.api_key", "Key of the training cloud (empty: from its SDK's own variable)", is_secret=True),
)
_JUDGE = (
    Question("rl.judge.verifier", "Judge: a Python function 'package.module:function' (empty: an LLM judges)"),
    Question("rl.judge.url", "Judge: base URL of an OpenAI-compatible API (empty: none)"),
    Question("rl.judge.model", "Judge: model"),
    Question("rl.judge.api_key", "Judge: API key", is_secret=True),
)
_FALLBACK = (
    Question("llm.provider", "Model that answers while the training server is down: provider ({providers}; or custom)"),
    Question("llm.api_base", "That model: base URL of an OpenAI-compatible API (empty: none)"),
    *(Question(question.key, f"That model: {question.text}", question.is_secret) for question in _UPSTREAM[2:]),
)


_WINDOWS = (
    Question("scheduler.sleep_start", "Training happens while you are away. You go to sleep at"),
    Question("scheduler.sleep_end", "You get up at"),
    Question("scheduler.idle_threshold_minutes", "Minutes without a touch of this machine after which you are away"),
    Question(
        "scheduler.calendar.url",
        "Calendar whose meetings count too: address of an ICS file or CalDAV collection (empty: none)",
        is_secret=True,
    ),
    Question("scheduler.calendar.username", "Calendar: user name (empty: none needed)"),
    Question("scheduler.calendar.password", "Calendar: password", is_secret=True),
)


def setup(
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing: take the flags and what is set; consent to rl.")
    ] = False,
    mode: Annotated[str | None, typer.Option(help="skills_only, rl or auto.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the gateway.")] = None,
    provider: Annotated[str | None, typer.Option(help="Provider of the model: openai, anthropic, ollama, ...")] = None,
    api_base: Annotated[str | None, typer.Option(help="Base URL of the model's API.")] = None,
    api_key: Annotated[
        str | None, typer.Option(help="Key of that API; `ps` shows flags, so better METACLAW_LLM_API_KEY.")
    ] = None,
    model_id: Annotated[str | None, typer.Option(help="Model.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="Who trains: remote (a training server), tinker, mint, weaver or auto.")
    ] = None,
    rl_model: Annotated[str | None, typer.Option(help="Base model that is trained.")] = None,
    remote_url: Annotated[str | None, typer.Option(help="Training server.")] = None,
    remote_api_key: Annotated[str | None, typer.Option(help="Key of the training server.")] = None,
    judge_verifier: Annotated[str | None, typer.Option(help="Judge: 'package.module:function'.")] = None,
    judge_url: Annotated[str | None, typer.Option(help="Judge: base URL of its API.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="Judge: model.")] = None,
    judge_api_key: Annotated[str | None, typer.Option(help="Judge: key.")] = None,
    program: Annotated[
        str | None, typer.Option(help="Agent program to connect (`metaclaw programs` lists them), or none.")
    ] = None,
) -> None:
    """Write config.yaml, with a random token for the gateway. Can be run again: only what you answer changes.

    Then connects the agent program that you use, if you say so.
    """
    given: dict[str, Any] = {
        "mode": mode, "proxy.port": port,
        "llm.provider": provider, "llm.api_base": api_base, "llm.api_key": api_key, "llm.model_id": model_id,
        "rl.model": rl_model, "rl.remote_url": remote_url, "rl.remote_api_key": remote_api_key,
        "rl.judge.verifier": judge_verifier, "rl.judge.url": judge_url, "rl.judge.model": judge_model,
        "rl.judge.api_key": judge_api_key,
        "agent_program": known_name(program),
    }  # fmt: skip
    from metaclaw.config import Settings
    from metaclaw.config_file import config_path, find_home, has_settings, read_settings, set_values

    home = find_home()
    asked = {"rl.backend": backend}
    current = read_settings(home, _of_clouds(), asked)[0] if has_settings(home) or backend else Settings(home=home)
    answers = {key: value for key, value in given.items() if value is not None}
    _follow_provider(current, answers)
    if not yes:
        _ask(current, answers)
        answers.setdefault("agent_program", ask_for_program(current))
    if _changes_provider(current, answers):
        answers.setdefault("llm.api_key", "")  # the one that is set belongs to somebody else
    answers |= _made_keys(current, answers)
    _require_enough(current, answers)
    set_values(home, _settled(current, answers) | _changed(current, answers))
    typer.echo(f"wrote {config_path(home)} (0600)")
    settings = read_settings(home)[0]
    is_connected = offer_to_connect(answers.get("agent_program"), settings, is_told=program is not None, yes=yes)
    _say_what_next(settings, is_connected=is_connected)


def _of_clouds() -> dict[str, str]:
    """The variables of the training clouds' SDKs: no other variable is written into the file."""
    import os

    return {name: value for name, value in os.environ.items() if name.startswith(("TINKER_", "MINT_", "WEAVER_"))}


def _ask(current: Settings, answers: dict[str, Any]) -> None:
    if "mode" not in answers:
        typer.echo(_MODES)
        answers["mode"] = typer.prompt("Mode", default=current.mode)
    trains = answers["mode"] != "skills_only"
    windows = _WINDOWS if answers["mode"] == "auto" else ()
    policy = (*(_CLOUD if current.rl.is_cloud else _SERVER), *_JUDGE, *_FALLBACK)
    for question in (*(policy if trains else _UPSTREAM), *_ALWAYS, *windows):
        if question.key not in answers and not _is_settled(question.key, answers):
            _ask_one(question, current, answers)
            _follow_provider(current, answers)
    if answers.get("scheduler.calendar.url"):
        answers["scheduler.calendar.enabled"] = True
    if trains and current.mode == "skills_only":
        typer.echo(_CONSENT.format(mode=answers["mode"], model=answers.get("rl.model") or current.rl.model))
        typer.confirm("Use it?", abort=True)


def _follow_provider(current: Settings, answers: dict[str, Any]) -> None:
    """With another provider whose URL is known, the URL of the one before goes."""
    from metaclaw.upstreams.presets import needs_no_url

    if _changes_provider(current, answers) and needs_no_url(answers["llm.provider"]):
        answers.setdefault("llm.api_base", "")


def _changes_provider(current: Settings, answers: dict[str, Any]) -> bool:
    return answers.get("llm.provider", current.llm.provider) != current.llm.provider


def _is_settled(key: str, answers: dict[str, Any]) -> bool:
    """Whether an earlier answer makes the question pointless: one judge, no fallback, a provider that says enough."""
    from metaclaw.upstreams.presets import find_preset, is_bedrock, needs_no_url

    provider = answers.get("llm.provider", "")
    if key == "llm.api_base":
        return needs_no_url(provider)
    if key == "llm.api_key" and (is_bedrock(provider) or ((preset := find_preset(provider)) and preset.is_local)):
        return True
    if key in ("llm.model_id", "llm.api_key") and answers.get("llm.api_base") == "" and not needs_no_url(provider):
        return True
    if key.startswith("scheduler.calendar.") and key != "scheduler.calendar.url":
        return not answers.get("scheduler.calendar.url") or (
            key.endswith("password") and not answers.get("scheduler.calendar.username")
        )
    if key in ("rl.judge.url", "rl.judge.model", "rl.judge.api_key") and answers.get("rl.judge.verifier"):
        return True
    return key in ("rl.judge.model", "rl.judge.api_key") and answers.get("rl.judge.url") == ""


def _ask_one(question: Question, current: Settings, answers: dict[str, Any]) -> None:
    from metaclaw.config_file import get_value
    from metaclaw.upstreams.presets import PRESETS

    now = get_value(current, question.key, reveal=True)
    if question.key == "llm.api_key" and _changes_provider(current, answers):
        now = ""
    wording = question.text.format(providers=", ".join(PRESETS))
    if question.is_secret:
        text = wording + (" (empty: keep the one that is set)" if now else "")
        answers[question.key] = typer.prompt(text, default="", hide_input=True, show_default=False) or now
    else:
        answers[question.key] = typer.prompt(wording, default=now, show_default=bool(now))


def _made_keys(current: Settings, answers: dict[str, Any]) -> dict[str, str]:
    """The keys that nobody else can know: the gateway's token, and that of a training server on this machine."""
    import secrets
    from urllib.parse import urlsplit

    from metaclaw.config import is_loopback

    made: dict[str, str] = {}
    if not current.proxy.api_key.get_secret_value():
        made["proxy.api_key"] = secrets.token_hex(24)
    if answers.get("mode", current.mode) == "skills_only" or current.rl.is_cloud:
        return made
    url = answers.get("rl.remote_url") or current.rl.remote_url
    has_key = answers.get("rl.remote_api_key") or current.rl.remote_api_key.get_secret_value()
    if not has_key and is_loopback(urlsplit(url).hostname or ""):
        shared = current.train_server.api_key.get_secret_value() or secrets.token_hex(24)
        made |= {"rl.remote_api_key": shared, "train_server.api_key": shared}
    return made


def _settled(current: Settings, answers: dict[str, Any]) -> dict[str, Any]:
    """What is written even where it is the default, and what an older file may say otherwise."""
    settled: dict[str, Any] = {"mode": answers.pop("mode", current.mode)}
    if settled["mode"] != "skills_only":
        settled["rl.backend"] = current.rl.backend if current.rl.is_cloud else "remote"
    if "proxy.api_key" in answers:  # just made: it must not open the address that was closed for want of it
        settled["proxy.host"] = current.proxy.host
    return settled


def _changed(current: Settings, answers: dict[str, Any]) -> dict[str, Any]:
    from metaclaw.config_file import get_value

    return {key: value for key, value in answers.items() if str(value) != get_value(current, key, reveal=True)}


def _require_enough(current: Settings, answers: dict[str, Any]) -> None:
    import os

    from metaclaw.config_file import get_value
    from metaclaw.config_keys import setting_keys
    from metaclaw.errors import ConfigError

    needed = "llm.api_base" if answers.get("mode", current.mode) == "skills_only" else "rl.model"
    flag = {"llm.api_base": "--provider or --api-base", "rl.model": "--rl-model"}[needed]
    if needed == "llm.api_base" and _says_where(answers.get("llm.provider") or current.llm.provider, current):
        return
    if not (answers.get(needed) or get_value(current, needed) or os.environ.get(setting_keys()[needed].env)):
        raise ConfigError(f"{needed} is needed in mode {answers.get('mode', current.mode)!r}: give {flag}")


def _says_where(provider: str, current: Settings) -> bool:
    from metaclaw.upstreams.presets import needs_no_url

    return needs_no_url(provider) or current.llm.auth_method == "oauth_token"


def _say_what_next(settings: Settings, *, is_connected: bool) -> None:
    from urllib.parse import urlsplit

    from metaclaw.config import is_loopback
    from metaclaw.training.model_sources import SOURCES

    judge = settings.rl.judge
    if settings.mode != "skills_only":
        if not (judge.verifier or judge.command or judge.has_model):
            typer.secho(_NO_JUDGE, err=True, bold=True)
        if settings.rl.model.lower() in SOURCES:
            typer.echo(f"next: metaclaw models prepare {settings.rl.model.lower()}")
        if settings.rl.backend in ("mint", "weaver"):
            typer.echo(f"next: metaclaw sdk prepare {settings.rl.backend}")
        elif not settings.rl.is_cloud and is_loopback(urlsplit(settings.rl.remote_url).hostname or ""):
            typer.echo("next: metaclaw train-server       (leave it running)")
    typer.echo("next: metaclaw start")
    if is_connected:
        return
    typer.echo(
        f"then: OPENAI_BASE_URL=http://{settings.proxy.host}:{settings.proxy.port}/v1 "
        "OPENAI_API_KEY=$(metaclaw config proxy.api_key)"
    )
