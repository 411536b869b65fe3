"""The formats, by name."""

from __future__ import annotations

from metaclaw.agents.documents.document import Format
from metaclaw.agents.documents.dotenv_document import DotenvFormat
from metaclaw.agents.documents.json5_document import Json5Format
from metaclaw.agents.documents.toml_document import TomlFormat
from metaclaw.agents.documents.yaml_document import YamlFormat

JSON5, TOML, YAML, DOTENV = Json5Format(), TomlFormat(), YamlFormat(), DotenvFormat()
FORMATS: dict[str, Format] = {form.name: form for form in (JSON5, TOML, YAML, DOTENV)}
