"""``docs/configuration.md``, from the settings themselves: ``python -m metaclaw.cli.reference``."""

from __future__ import annotations

import typer
from pydantic import SecretStr

from metaclaw.config_keys import ENV_ALIASES, SettingKey, section_names, setting_keys
from metaclaw.config_legacy import IGNORED, RENAMED, RENAMED_VALUES
from metaclaw.config_names import ID

_HEAD = """\
# Configuration

<!-- Made by `make docs` from src/metaclaw/config/. Change it there. -->

Settings live in `config.yaml` in `METACLAW_HOME` (default `~/.metaclaw`). Each key also has a variable; a flag wins
over the variable, the variable over the file, the file over the default. An empty variable is not set. A key that does
not exist is refused with the nearest one that does. A relative folder is one of `METACLAW_HOME`.

```console
$ metaclaw config show
$ metaclaw config rl.update.learning_rate 3e-4
$ metaclaw config proxy.api_key
```

`show` masks secrets (`--reveal` shows them); one key alone is printed as it is. `metaclaw config KEY -` reads the value
from standard input, so that a key is in no shell history. Edits keep your comments and replace the file whole, mode
0600; a file with a mistake in it is never rewritten. `metaclaw config tidy` writes a file of an older release
under today's names, leaves out what does nothing here, and keeps the file as it was beside it.

A key that takes several values is a list in the file, and one text with commas on the command line and in a variable.
`N` counts the entries of a list of groups from 0: `metaclaw config llm.fallbacks.0.provider ollama` makes the first, or
changes it, and `METACLAW_LLM_FALLBACKS_0_API_KEY` is its key. In the file:

```yaml
llm:
  provider: anthropic
  fallbacks:
    - provider: ollama
      model_id: qwen3:8b
```

`ID` stands for the id of an agent, and its settings hold for it instead of those of all:
`metaclaw config agents.research-agent.mode rl`. They have no variables. In the file:

```yaml
agents:
  research-agent:
    mode: rl
    lora: {rank: 16}
  assistant-agent:
    mode: skills_only
```

`METACLAW_CACHE` names the folder of prepared models (default: the user's cache directory).
`METACLAW_LOG` is `text` or `json`: how all processes write their log (default: text on a terminal, else JSON).
"""


def reference() -> str:
    """The page."""
    parts = [_HEAD, _section("", ""), *(_section(name, text) for name, text in section_names().items()), _legacy()]
    return "\n".join(part for part in parts if part)


def _section(section: str, text: str) -> str:
    keys = [key for key in setting_keys().values() if key.name.rpartition(".")[0] == section]
    if not keys:
        return ""
    title = f"## `{section}`\n\n{text}\n" if section else "## Top level\n"
    return "\n".join([title, "| key | default | what it is |", "|---|---|---|", *map(_row, keys), ""])


def _row(key: SettingKey) -> str:
    default = "" if key.default in (None, ()) or isinstance(key.default, SecretStr) else _text(key.default)
    aliases = [variable for variable, name in ENV_ALIASES.items() if name == key.name]
    extra = f" Also `{aliases[0]}`." if aliases else ""
    variable = "" if key.name.startswith(f"agents.{ID}.") else f"<br>`{key.env}`"
    return f"| `{key.name}`{variable} | {f'`{default}`' if default else ''} | {_cell(key.description)}{extra} |"


def _legacy() -> str:
    lines = [
        "## Keys of older releases\n",
        "A file that another release wrote loads: these keys are honoured, or named in a warning and ignored.\n",
        "| old | now |",
        "|---|---|",
        *(f"| `{old}` | `{new}` |" for old, new in RENAMED.items()),
        *(f"| `{key}: {old}` | `{key}: {new}` |" for (key, old), new in RENAMED_VALUES.items()),
        *(f"| {', '.join(f'`{name}`' for name in names)} | {_cell(why)} |" for why, names in IGNORED.items()),
    ]
    return "\n".join(lines)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    typer.echo(reference())
