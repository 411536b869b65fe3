"""``metaclaw setup``: the questions, and config.yaml from the answers.

Owns asking and what follows from the answers; refuses to know the wording and how the file is written. Invariant: only
the keys that were asked about change, and a token is made once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from metaclaw.cli.setup_learning import can_learn, learning_with, require_learning
from metaclaw.cli.setup_missing import missing_in
from metaclaw.cli.setup_program import ask_for_program, known_name, offer_to_connect
from metaclaw.cli.setup_questions import MODES, Question, is_settled, questions_for

if TYPE_CHECKING:
    from metaclaw.config import Settings

_MODES = "skills_only: your model answers, with skills. rl: a model that you train answers. auto: rl while you are away"
_CONSENT = """Mode {mode} answers with the small model that is trained ({model}) in place of the strong one behind your
agent. It starts weaker than what you are used to, and learns from how its answers are judged."""
_NO_JUDGE = """NO JUDGE: nothing scores the answers, so nothing will be trained. Set rl.judge.verifier (a Python
function), or rl.judge.url, rl.judge.model and rl.judge.api_key (an LLM), and start again."""


_LEARN = """Skills can be written from what failed: this model then judges the answers, too (three short requests for
each message of yours, 5 US dollars a day at most: rl.judge.max_usd_per_day), and is sent the exchanges that failed."""


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
    learn: Annotated[
        bool | None, typer.Option(help="Let the model that answers judge, too, and write skills from what failed.")
    ] = None,
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
    if learn:
        answers |= require_learning(current, answers)
    if not yes:
        _ask(current, answers, asks_to_learn=learn is None)
        answers.setdefault("agent_program", ask_for_program(current))
    if _changes_provider(current, answers):
        for key in ("llm.api_key", "llm.oauth_token"):
            answers.setdefault(key, "")  # the one that is set belongs to somebody else
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


def _ask(current: Settings, answers: dict[str, Any], *, asks_to_learn: bool) -> None:
    if "mode" not in answers:
        typer.echo(_MODES)
        answers["mode"] = _choice("Mode", MODES, current.mode)
    trains = answers["mode"] != "skills_only"
    for question in questions_for(answers["mode"], is_cloud=current.rl.is_cloud):
        if question.key not in answers and not is_settled(question.key, answers):
            _ask_one(question, current, answers)
            _follow_provider(current, answers)
    if asks_to_learn and not trains and can_learn(current, answers):
        typer.echo(_LEARN)
        if typer.confirm("Shall it?", default=False):
            answers |= learning_with(current, answers)
    if answers.get("scheduler.calendar.url"):
        answers["scheduler.calendar.enabled"] = True
    if trains and current.mode == "skills_only":
        typer.echo(_CONSENT.format(mode=answers["mode"], model=answers.get("rl.model") or current.rl.model))
        typer.confirm("Use it?", abort=True)


def _choice(text: str, choices: tuple[str, ...], default: str) -> str:
    while (answer := str(typer.prompt(text, default=default)).strip()) not in choices:
        typer.echo(f"{answer!r} is not one of {', '.join(choices)}", err=True)
    return answer


def _follow_provider(current: Settings, answers: dict[str, Any]) -> None:
    """With another provider the URL of the one before goes, where its own is known, and how that was asked."""
    from metaclaw.upstreams.presets import has_subscription, is_subscription_alone, needs_no_url

    provider = answers.get("llm.provider", current.llm.provider)
    if is_subscription_alone(provider):
        answers.setdefault("llm.auth_method", "oauth_token")
    if not _changes_provider(current, answers):
        return
    if needs_no_url(provider):
        answers.setdefault("llm.api_base", "")
    if not has_subscription(provider) and current.llm.auth_method == "oauth_token":
        answers.setdefault("llm.auth_method", "api_key")


def _changes_provider(current: Settings, answers: dict[str, Any]) -> bool:
    return answers.get("llm.provider", current.llm.provider) != current.llm.provider


def _ask_one(question: Question, current: Settings, answers: dict[str, Any]) -> None:
    from metaclaw.config_file import get_value
    from metaclaw.upstreams.presets import known_names

    now = get_value(current, question.key, reveal=True)
    if question.key in ("llm.api_key", "llm.oauth_token") and _changes_provider(current, answers):
        now = ""
    wording = question.text.format(providers=", ".join(known_names()))
    if question.choices:
        answers[question.key] = _choice(wording, question.choices, now)
    elif question.is_secret:
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
    if needed == "llm.api_base" and _says_where(current, answers):
        return
    if not (answers.get(needed) or get_value(current, needed) or os.environ.get(setting_keys()[needed].env)):
        raise ConfigError(f"{needed} is needed in mode {answers.get('mode', current.mode)!r}: give {flag}")


def _says_where(current: Settings, answers: dict[str, Any]) -> bool:
    from metaclaw.upstreams.presets import needs_no_url

    auth_method = answers.get("llm.auth_method") or current.llm.auth_method
    return needs_no_url(answers.get("llm.provider") or current.llm.provider) or auth_method == "oauth_token"


def _say_what_next(settings: Settings, *, is_connected: bool) -> None:
    from urllib.parse import urlsplit

    from metaclaw.config import is_loopback
    from metaclaw.training.model_sources import SOURCES

    for missing in missing_in(settings.llm):
        typer.secho(missing, err=True, bold=True)
    if settings.mode != "skills_only":
        if not settings.rl.judge.scores:
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
