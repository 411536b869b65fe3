"""``metaclaw``: the commands and their one error boundary.

Owns the list of commands and how an error looks; refuses to know what the commands do. Invariant: `metaclaw --help`
needs nothing but the base install, and an error of ours is one line on standard error, never a traceback.
"""

from __future__ import annotations

import os
import sys

import typer

from metaclaw import __version__
from metaclaw.cli import (
    agents,
    audit,
    bench,
    config,
    dashboard,
    importing,
    journal,
    judge,
    keys,
    memory_report,
    models,
    policy,
    programs,
    rollout,
    run,
    scheduler,
    sdk,
    setup,
    skill_trials,
    tokens,
    train_server,
    uninstall,
    vllm,
    why,
)
from metaclaw.cli.older_names import OlderNames
from metaclaw.errors import ConfigError, MetaClawError
from metaclaw.proxy_variables import exempt_this_machine

app = typer.Typer(
    name="metaclaw",
    cls=OlderNames,
    help="A learning layer for personal AI agents. Start with `metaclaw setup`, then `metaclaw start`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they would print local variables, and those hold keys
)
app.command("setup")(setup.setup)
app.command("start")(run.start)
app.command("stop")(run.stop)
app.command("status")(run.status)
app.command("connect")(programs.connect)
app.command("disconnect")(programs.disconnect)
app.command("programs")(programs.programs)
app.command("train-step")(scheduler.train_step)
app.command("rollout")(rollout.rollout)
app.add_typer(bench.app, name="bench")
app.add_typer(scheduler.app, name="scheduler")
app.command("why")(why.why)
app.command("dashboard")(dashboard.dashboard)
app.command("config", context_settings={"ignore_unknown_options": True})(config.config)
app.add_typer(agents.app, name="agents")
app.add_typer(importing.app, name="import")
app.add_typer(models.app, name="models")
app.add_typer(tokens.app, name="tokens")
app.add_typer(keys.app, name="keys")
app.add_typer(journal.app, name="journal")
app.add_typer(skill_trials.app, name="skills")
app.add_typer(policy.app, name="policy")
app.add_typer(judge.app, name="judge")
app.add_typer(memory_report.app, name="memory")
app.command("audit")(audit.audit)
app.command("train-server")(train_server.train_server)
app.add_typer(vllm.app, name="vllm")
app.add_typer(sdk.app, name="sdk")
app.command("uninstall")(uninstall.uninstall)


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run a command: exit code 0, 2 for a configuration or usage that cannot work, 1 for anything else."""
    exempt_this_machine(os.environ)  # for what a command starts as well
    try:
        app()
    except BrokenPipeError:  # `metaclaw config show | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MetaClawError as error:
        _fail(str(error), 2 if isinstance(error, ConfigError) else 1)
    except (UnicodeEncodeError, UnicodeDecodeError) as error:  # its text would show what was given
        _fail(_not_text(error), 1)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)


def _not_text(error: UnicodeEncodeError | UnicodeDecodeError) -> str:
    characters = sys.stdout.encoding
    if isinstance(error, UnicodeEncodeError) and error.encoding != "utf-8" != characters.lower():
        return f"what is to be written is not all in {characters}; with PYTHONIOENCODING=utf-8 it is written as UTF-8"
    return f"what was given is not UTF-8 text: {error.reason}"


def _fail(message: str, code: int) -> None:
    typer.echo(f"metaclaw: {' '.join(message.split())}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
