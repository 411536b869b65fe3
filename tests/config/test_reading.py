"""What is read from where, and how a mistake is answered."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaclaw.config import Settings
from metaclaw.config_file import dump_settings, get_value, load_settings, parse_settings, read_settings
from metaclaw.config_keys import ENV_ALIASES, names_in, setting_keys
from metaclaw.errors import ConfigError


def write(home: Path, text: str) -> Path:
    home.mkdir(exist_ok=True)
    (home / "config.yaml").write_text(text)
    return home


def refusal(home: Path, text: str, **env: str) -> str:
    """The message with which ``text`` is refused; always one line."""
    with pytest.raises(ConfigError) as caught:
        read_settings(write(home, text), env)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_flags_win_over_variables_over_the_file_over_the_defaults(tmp_path: Path):
    home = write(tmp_path, "proxy:\n  port: 1\nskills:\n  top_k: 1\nllm:\n  model_id: one\n")
    env = {"METACLAW_PROXY_PORT": "2", "METACLAW_SKILLS_TOP_K": "2"}
    settings = load_settings(home, env, {"proxy.port": 3, "mode": None})
    assert (settings.proxy.port, settings.skills.top_k) == (3, 2)
    assert (settings.llm.model_id, settings.mode) == ("one", "skills_only")


def test_the_home_is_given_or_metaclaw_home_or_in_the_users_own(tmp_path: Path):
    env = {"METACLAW_HOME": str(tmp_path / "a")}
    assert load_settings(tmp_path / "b", env).home == tmp_path / "b"
    assert load_settings(None, env).home == tmp_path / "a"
    assert load_settings(None, {}, {}).home == Path("~/.metaclaw").expanduser()


def test_the_training_server_has_the_short_variable_that_the_documentation_names(tmp_path: Path):
    env = {"METACLAW_TRAIN_API_KEY": "short"}
    assert load_settings(tmp_path, env).train_server.api_key.get_secret_value() == "short"
    env["METACLAW_TRAIN_SERVER_API_KEY"] = "long"
    assert load_settings(tmp_path, env).train_server.api_key.get_secret_value() == "long"


def test_every_key_has_a_variable_of_its_own():
    variables = [key.env for key in setting_keys().values()]
    assert len(variables) == len(set(variables))
    assert not set(variables) & ENV_ALIASES.keys()


def test_an_empty_variable_is_not_set(tmp_path: Path):
    assert load_settings(tmp_path, {"METACLAW_PROXY_PORT": ""}).proxy.port == 30000


def test_a_key_with_nothing_behind_it_is_not_set(tmp_path: Path):
    assert read_settings(write(tmp_path, "rl:\nproxy:\n  port:\nmode: rl\n"), {})[0].proxy.port == 30000


def test_a_folder_that_is_empty_text_is_not_set(tmp_path: Path):
    """It was the current directory of whoever started the process."""
    settings, _ = read_settings(write(tmp_path, "skills: {dir: ''}\ntrain_server: {data_dir: ''}\n"), {})
    assert (settings.skills.dir, settings.train_server.data_dir) == (None, None)
    assert (settings.skills_dir, settings.train_server_dir) == (tmp_path / "skills", tmp_path / "train-server")


def test_a_relative_folder_is_seen_from_the_home_and_an_absolute_one_stays(tmp_path: Path):
    settings, _ = read_settings(write(tmp_path, "skills: {dir: mine}\ntrain_server: {data_dir: ../big}\n"), {})
    assert (settings.skills_dir, settings.train_server_dir) == (tmp_path / "mine", tmp_path / "../big")
    settings, _ = read_settings(write(tmp_path, "skills: {dir: /srv/x}\ntrain_server: {data_dir: ~/big}\n"), {})
    assert (settings.skills_dir, settings.train_server_dir) == (Path("/srv/x"), Path("~/big").expanduser())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rl:\n  remot_url: x\n", "unknown key 'rl.remot_url' ({path}); did you mean 'rl.remote_url'?"),
        ("proxi:\n  port: 3\n", "unknown key 'proxi.port' ({path}); did you mean 'proxy.port'?"),
        ("port: 3\n", "unknown key 'port' ({path}); did you mean 'proxy.port'?"),
        ("mode: {a: 1}\n", "unknown key 'mode.a' ({path}); did you mean 'mode'?"),
        ("zzzzqqq: 1\n", "unknown key 'zzzzqqq' ({path}); `metaclaw config show` lists the keys"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_one(tmp_path: Path, text: str, expected: str):
    """SPEC A3: `proxy.api_key` was accepted there, and read by nobody."""
    assert refusal(tmp_path, text) == expected.format(path=tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mode: rll\n", "mode: 'rll' is not valid"),
        ("proxy:\n  port: 99999\n", "proxy.port: 99999 is not valid"),
        ("llm:\n  model_id: 123\n", "llm.model_id: 123 is not valid"),
        ("rl:\n  remote_url: gpu:8000\n", "write it with a scheme, for example 'http://gpu:8000'"),
        ("rl:\n  remote_url: http://:8000/v1\n", "names no host; write one"),
        ("rl:\n  remote_url: http://gpu:99999/v1\n", "a port that is not a number from 0 to 65535"),
        ("rl:\n  remote_url: http://gpu:80a/v1\n", "a port that is not a number from 0 to 65535"),
        ("llm:\n  api_base: 'http://gpu /v1'\n", "llm.api_base: 'http://gpu /v1' is not valid"),
        ('llm:\n  api_base: "http://gpu/v1\\n"\n', "a blank or a control character"),
        ('rl:\n  remote_url: "http://gp\\u0001u"\n', "a blank or a control character"),
        ("rl:\n  update:\n    min_exchanges: 4\n", "rl.update: min_informative (8) is above min_exchanges (4)"),
        ("llm:\n  gap_timeout_s: .inf\n", "llm.gap_timeout_s: inf is not valid"),  # each turn was an error of ours
        ("rl: 3\n", "'rl' is a group of settings"),
        ("rl.judge.url: http://x\n", "written with dots"),
    ],
)
def test_a_bad_value_is_refused_with_its_key_and_what_would_do(tmp_path: Path, text: str, expected: str):
    assert expected in refusal(tmp_path, text)


def test_the_place_of_a_bad_value_is_named(tmp_path: Path):
    assert "(METACLAW_PROXY_PORT)" in refusal(tmp_path, "proxy:\n  port: 1\n", METACLAW_PROXY_PORT="x")
    with pytest.raises(ConfigError, match=r"\(flag\)"):
        load_settings(tmp_path, {}, {"proxy.port": -1})


def test_a_secret_is_in_no_message(tmp_path: Path):
    """PITFALLS S6: parts of credentials were printed."""
    for text in ("llm:\n  api_key: 12345\n", "llm:\n  api_key: [12345]\n", "llm:\n  api_key: 1\n  api_key: 12345\n"):
        assert "12345" not in refusal(tmp_path, text)
    assert "12345" not in repr(Settings.model_validate({"llm": {"api_key": "12345"}}))


@pytest.mark.parametrize(
    "name",
    [key.name.replace(".N.", ".0.").replace(".ID.", ".research.") for key in setting_keys().values() if key.secret],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\x00", "\x7f"])
def test_a_key_that_would_break_a_header_is_refused_by_name_without_being_shown(tmp_path: Path, name: str, end: str):
    with pytest.raises(ConfigError) as caught:
        load_settings(tmp_path, {}, {name: f"sk-12345{end}"})
    assert str(caught.value).startswith(f"{name}: *** is not valid (flag): it holds a line break")
    assert "12345" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds no settings"),
        ("# only a comment\n", "holds no settings"),
        ("- a\n- b\n", "must hold 'key: value' lines"),
        ("just text\n", "must hold 'key: value' lines"),
        ("rl:\n\tmodel: x\n", "line 2: not valid YAML: found character '\\t'"),
        ("rl:\n  model: x\n  model: y\n", 'line 3: found duplicate key "model"; keep one of them'),
        ("a: [1\n", "line 2: not valid YAML"),
    ],
)
def test_what_is_no_mapping_is_refused_with_its_line(tmp_path: Path, text: str, expected: str):
    assert expected in refusal(tmp_path, text)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    (tmp_path / "config.yaml").write_bytes(b"mode: \xff\xfe\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_settings(tmp_path, {})


@pytest.mark.parametrize("section", ["proxy", "train_server"])
@pytest.mark.parametrize("host", ["::", "192.168.1.5", "", "gpu.example"])
def test_an_open_address_without_a_key_is_refused_when_settings_are_built(tmp_path: Path, section: str, host: str):
    """PITFALLS S1: bound to 0.0.0.0, with no key, by default."""
    assert f"{section}.api_key" in refusal(tmp_path, f"{section}:\n  host: '{host}'\n")
    write(tmp_path, f"{section}:\n  host: '{host}'\n  api_key: mine\n")
    read_settings(tmp_path, {})


@pytest.mark.parametrize("text", ["llm: {api_key: sk-1}\n", "rl: {tinker_api_key: tml-1, backend: remote}\n"])
def test_a_file_with_a_key_that_others_can_read_is_mentioned_with_what_to_do(tmp_path: Path, text: str):
    """PITFALLS S6: secrets with default permissions."""
    path = write(tmp_path, text) / "config.yaml"
    for mode, expected in ((0o644, 1), (0o640, 1), (0o604, 1), (0o600, 0)):
        path.chmod(mode)
        warnings = read_settings(tmp_path, {})[1]
        assert [f"run `chmod 600 {path}`" in line for line in warnings].count(True) == expected
    path.chmod(0o644)
    path.write_text("llm: {api_key: ''}\nmode: rl\n")
    assert read_settings(tmp_path, {})[1] == []


def test_every_secret_is_known_by_the_end_of_its_name():
    ends = ("api_key", "api_keys", "oauth_token", "calendar.url", "calendar.password")
    assert all(key.secret == key.name.endswith(ends) for key in setting_keys().values())


def test_a_variable_that_looks_like_a_slip_is_mentioned(tmp_path: Path):
    env = {"METACLAW_PROXY_PROT": "1", "METACLAW_BENCH_INPUT": "x", "METACLAW_HOME": str(tmp_path)}
    assert read_settings(None, env)[1] == ["METACLAW_PROXY_PROT is not read; did you mean METACLAW_PROXY_PORT?"]


def test_load_settings_logs_what_it_would_warn_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING, logger="metaclaw.config"):
        load_settings(write(tmp_path, "mode: madmax\n"), {})
    assert "'madmax' is now called 'auto'" in caplog.text


def test_a_child_gets_every_setting_with_its_secrets_in_one_line(tmp_path: Path):
    home = write(tmp_path, "mode: rl\nllm:\n  api_key: 'a\"b\\n'\nskills:\n  dir: ~/x\n")
    settings = load_settings(home, {})
    line = dump_settings(settings)
    assert "\n" not in line
    assert parse_settings(line) == settings
    assert parse_settings(line).home == home


@pytest.mark.parametrize("line", ["", "{}x", "[]", '{"llm": {"api_key": "sk-1", "x": 1}}'])
def test_a_line_that_is_no_settings_is_refused_without_showing_it(line: str):
    with pytest.raises(ConfigError) as caught:
        parse_settings(line)
    assert "sk-1" not in str(caught.value)


@given(st.sampled_from(list(names_in(Settings()))))
def test_every_key_can_be_shown(name: str):
    assert isinstance(get_value(Settings(), name), str)


@given(st.text(min_size=1, max_size=40))
def test_no_name_that_is_no_key_is_accepted(name: str):
    if name not in setting_keys():
        with pytest.raises(ConfigError):
            load_settings(Path("/nowhere"), {}, {name: "x"})
