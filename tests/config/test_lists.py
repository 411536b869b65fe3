"""Lists in the settings: several values of one key, and groups that are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from metaclaw.config_file import dump_settings, get_value, load_settings, parse_settings, read_settings, set_value
from metaclaw.config_keys import names_in
from metaclaw.errors import ConfigError

FILE = """\
llm:
  provider: openai
  fallbacks:
    # the other account
    - provider: moonshot   # in Singapore
      api_key: sk-12345
    - provider: ollama
      model_id: 'qwen3:8b'
"""


def write(home: Path, text: str) -> Path:
    (home / "config.yaml").write_text(text)
    (home / "config.yaml").chmod(0o600)
    return home


def refusal(home: Path, text: str, **env: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_settings(write(home, text), env)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_entries_of_a_list_of_groups_are_read_in_order_with_their_defaults(tmp_path: Path):
    fallbacks = load_settings(write(tmp_path, FILE), {}).llm.fallbacks
    assert [entry.provider for entry in fallbacks] == ["moonshot", "ollama"]
    assert fallbacks[0].api_key.get_secret_value() == "sk-12345"
    assert fallbacks[1].connect_timeout_s == 10.0


FLAT = """\
llm:
  fallbacks:   # dashes right below
  - provider: moonshot   # in Singapore
    model_id: 'qwen3:8b'
  - provider: ollama
    model_id: 'qwen3:8b'
"""


@pytest.mark.parametrize("text", [FILE, FLAT], ids=["indented", "flat"])
def test_a_setting_of_an_entry_can_be_written_and_everything_else_stays(tmp_path: Path, text: str):
    set_value(write(tmp_path, text), "llm.fallbacks.1.model_id", "qwen3:4b")
    before, _, _ = text.rpartition("'qwen3:8b'")
    assert (tmp_path / "config.yaml").read_text() == f"{before}'qwen3:4b'\n"


def test_the_next_entry_can_be_made_and_the_one_after_it_cannot(tmp_path: Path):
    set_value(tmp_path, "llm.fallbacks.0.provider", "ollama")
    set_value(tmp_path, "llm.fallbacks.1.provider", "vllm")
    before = (tmp_path / "config.yaml").read_text()
    assert before == "llm:\n  fallbacks:\n    - provider: ollama\n    - provider: vllm\n"
    with pytest.raises(ConfigError, match=r"llm\.fallbacks\.2 is missing: .*without gaps"):
        set_value(tmp_path, "llm.fallbacks.3.provider", "vllm")
    assert (tmp_path / "config.yaml").read_text() == before


def test_a_variable_gives_a_setting_of_an_entry_and_wins_over_the_file(tmp_path: Path):
    env = {"METACLAW_LLM_FALLBACKS_0_API_KEY": "sk-other", "METACLAW_LLM_FALLBACKS_2_PROVIDER": "vllm"}
    settings, warnings = read_settings(write(tmp_path, FILE), env)
    assert [entry.provider for entry in settings.llm.fallbacks] == ["moonshot", "ollama", "vllm"]
    assert settings.llm.fallbacks[0].api_key.get_secret_value() == "sk-other"
    assert warnings == []


def test_the_secrets_of_an_entry_are_masked_and_in_no_message(tmp_path: Path):
    settings = load_settings(write(tmp_path, FILE), {})
    shown = {name: get_value(settings, name) for name in names_in(settings)}
    assert shown["llm.fallbacks.0.api_key"] == "***"
    assert shown["llm.fallbacks.1.model_id"] == "qwen3:8b"
    assert not any(".N." in name for name in shown)
    assert get_value(settings, "llm.fallbacks.0.api_key", reveal=True) == "sk-12345"
    assert "12345" not in refusal(tmp_path, "llm: {fallbacks: [{api_key: 12345}]}\n")
    assert "12345" not in refusal(tmp_path, "llm: {fallbacks: sk-12345}\n")
    assert "12345" not in refusal(tmp_path, "llm: {fallbacks: [sk-12345]}\n")
    assert "12345" not in refusal(tmp_path, "llm: {api_keys: [12345]}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llm: {fallbacks: [{provder: x}]}\n", "unknown key 'llm.fallbacks.0.provder'"),
        ("llm: {fallbacks: [{provder: x}]}\n", "did you mean 'llm.fallbacks.N.provider'"),
        ("llm: {fallbacks: [{provider: x, fallbacks: []}]}\n", "unknown key 'llm.fallbacks.0.fallbacks'"),
        ("llm: {fallbacks: {provider: x}}\n", "llm.fallbacks must be a list"),
        ("llm: {fallbacks: [{}]}\n", "llm.fallbacks.0 must hold 'key: value' lines"),
        ("llm: {fallbacks: [{gap_timeout_s: 0}]}\n", "llm.fallbacks.0.gap_timeout_s: 0 is not valid"),
        ("llm: {dialects: [openai.chat, klingon]}\n", "llm.dialects: "),
    ],
)
def test_a_mistake_in_an_entry_is_named_with_its_number(tmp_path: Path, text: str, expected: str):
    assert expected in refusal(tmp_path, text)


def test_a_list_itself_is_no_setting_and_neither_is_its_pattern(tmp_path: Path):
    settings = load_settings(write(tmp_path, FILE), {})
    with pytest.raises(ConfigError, match=r"list of groups: name one setting of an entry, as llm\.fallbacks\.0\."):
        set_value(tmp_path, "llm.fallbacks", "x")
    for name in ("llm.fallbacks.N.provider", "llm.fallbacks.00.provider", "llm.fallbacks.provider"):
        with pytest.raises(ConfigError, match="unknown key"):
            set_value(tmp_path, name, "x")
    with pytest.raises(ConfigError, match="there are 2 entries"):
        get_value(settings, "llm.fallbacks.2.provider")


def test_an_empty_list_is_not_set(tmp_path: Path):
    for text in ("llm: {fallbacks: []}\n", "llm: {fallbacks: }\n", "llm: {api_keys: []}\n", "llm: {api_keys: ''}\n"):
        llm = load_settings(write(tmp_path, text), {}).llm
        assert (llm.fallbacks, llm.api_keys) == ((), ())


def test_several_values_are_a_list_in_the_file_and_one_text_with_commas_elsewhere(tmp_path: Path):
    set_value(tmp_path, "llm.api_keys", "sk-a, sk-b")
    assert (tmp_path / "config.yaml").read_text() == "llm:\n  api_keys:\n    - sk-a\n    - sk-b\n"
    settings = load_settings(tmp_path, {})
    assert get_value(settings, "llm.api_keys") == "***,***"
    assert get_value(settings, "llm.api_keys", reveal=True) == "sk-a,sk-b"
    env = {"METACLAW_LLM_DIALECTS": "anthropic.messages,openai.chat"}
    assert load_settings(tmp_path, env).llm.dialects == ("anthropic.messages", "openai.chat")


def test_a_file_whose_list_holds_a_key_and_that_others_can_read_is_mentioned(tmp_path: Path):
    for text in (FILE, "llm: {api_keys: [sk-1]}\n"):
        write(tmp_path, text)
        (tmp_path / "config.yaml").chmod(0o644)
        assert any("chmod 600" in line for line in read_settings(tmp_path, {})[1])


def test_a_child_gets_the_lists_too(tmp_path: Path):
    settings = load_settings(write(tmp_path, FILE.replace("provider: openai", "api_keys: [sk-a]")), {})
    assert parse_settings(dump_settings(settings)) == settings
