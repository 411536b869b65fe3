"""A file of the reference system is met with care: honoured, or told why not; never a riddle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metaclaw.config import RlSettings
from metaclaw.config_file import has_older_names, read_settings, set_value, tidy_names
from metaclaw.config_keys import setting_keys
from metaclaw.config_legacy import IGNORED, RENAMED, RENAMED_VALUES, VARIABLES, is_legacy
from metaclaw.errors import ConfigError

# What its set-up wrote, with every key that its releases and its fork documented.
REFERENCE = """\
mode: madmax
claw_type: openclaw
configure_openclaw: true
max_context_tokens: 50000
context_window: 0
llm: {auth_method: api_key, provider: kimi, model_id: kimi-k2.5, api_base: https://api.moonshot.cn/v1, api_key: sk-1,
      bedrock_region: us-east-1}
proxy: {port: 30000, host: 127.0.0.1, api_key: ''}
skills: {enabled: true, dir: ~/.metaclaw/skills, retrieval_mode: template, top_k: 6, task_specific_top_k: 10,
         auto_evolve: true, evolution_every_n_turns: 10}
rl: {enabled: true, backend: auto, api_key: '', base_url: '', model: Qwen/Qwen3-8B, tinker_api_key: tml-1,
     prm_provider: openai, prm_url: https://api.openai.com/v1, prm_model: gpt-5.2, prm_api_key: sk-2, lora_rank: 32,
     batch_size: 4, resume_from_ckpt: '', evolver_provider: openai, evolver_api_base: '', evolver_api_key: '',
     evolver_model: '', manual_train_trigger: false}
memory: {enabled: true, dir: ~/.metaclaw/memory, scope: default, retrieval_mode: keyword, use_embeddings: false,
         embedding_mode: hashing, embedding_model: all-MiniLM-L6-v2, embedding_model_path: Qwen/Qwen3-Embedding-0.6B,
         max_injected_units: 6, max_injected_tokens: 800, auto_extract: true, auto_consolidate: true,
         ignore_turn_type: false, manual_trigger: false, auto_upgrade_enabled: false,
         auto_upgrade_interval_seconds: 900, auto_upgrade_require_review: true, review_stale_after_hours: 72,
         store_path: '', policy_path: '', telemetry_path: '', top_k: 5, max_tokens: 800, consolidation_interval: 1,
         sidecar_url: ''}
scheduler: {enabled: true, idle_threshold_minutes: 30, sleep_start: 23:00, sleep_end: 07:00, min_window_minutes: 15,
            calendar: {enabled: false, credentials_path: '', token_path: ''}}
openrouter: {app_name: x, app_url: '', route: price, fallback_models: [], data_policy: ''}
wechat: {enabled: false, bridge_dir: x}
openclaw_compat: {context_engine_enabled: true, active_memory_compat: true, min_version: 2026.4.10}
opd: {enabled: false, teacher_model: x}
agents:
  research-agent: {mode: rl, skills_dir: x, lora_output: y}
"""


def load(home: Path, text: str):
    (home / "config.yaml").write_text(text)
    (home / "config.yaml").chmod(0o600)  # else a key in it is worth a warning of its own
    return read_settings(home, {})


def test_a_whole_reference_file_loads_and_every_key_is_honoured_or_named(tmp_path: Path):
    settings, warnings = load(
        tmp_path, REFERENCE.replace("madmax", "skills_only").replace("{mode: rl", "{mode: skills_only")
    )
    assert (settings.mode, settings.agent_program) == ("skills_only", "openclaw")
    assert settings.rl.judge.model == "gpt-5.2"
    assert settings.rl.judge.api_key.get_secret_value() == "sk-2"
    assert settings.llm.model_id == "kimi-k2.5"
    assert (settings.openrouter.app_name, settings.openrouter.route) == ("x", "price")
    told = "\n".join(warnings)
    own = settings.agents.of("research-agent")
    assert (own.mode, settings.own_skills_dirs) == ("skills_only", {"research-agent": tmp_path / "x"})
    assert settings.scheduler.model_dump(exclude={"calendar"}) | {"time_zone": ""} == {
        "enabled": True, "idle_threshold_minutes": 30, "sleep_start": "23:00", "sleep_end": "07:00",
        "min_window_minutes": 15, "time_zone": "", "idle_source": "auto", "resume_after_minutes": 5,
    }  # fmt: skip
    for name in ("memory.scope", "rl.batch_size", "opd."):
        assert name in told


def test_the_agent_program_of_an_older_file_is_known_by_its_name_of_today(tmp_path: Path):
    settings, warnings = load(tmp_path, "claw_type: copaw\n")
    assert settings.agent_program == "qwenpaw"
    assert warnings[0] == "claw_type is now called agent_program; it was honoured"


@pytest.mark.parametrize(("old", "new"), [("template", "lexical"), ("embedding", "auto")])
def test_how_skills_were_found_is_honoured(tmp_path: Path, old: str, new: str):
    settings, warnings = load(tmp_path, f"skills: {{retrieval_mode: {old}}}\n")
    assert settings.skills.retrieval == new
    assert warnings[0] == "skills.retrieval_mode is now called skills.retrieval; it was honoured"


def test_finding_by_meaning_needs_something_that_knows_it(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"skills\.retrieval 'semantic' needs embeddings\.url or embeddings\.path"):
        load(tmp_path, "skills: {retrieval: semantic}\n")


def test_the_old_name_of_the_mode_auto_is_honoured(tmp_path: Path):
    assert load(tmp_path, "mode: madmax\n")[0].mode == "auto"


@pytest.mark.parametrize("backend", ["tinker", "mint", "weaver"])
def test_the_key_of_a_training_cloud_in_an_older_file_is_honoured_and_never_sent_to_our_server(
    tmp_path: Path, backend: str
):
    """Its key went to rl.remote_url, which is this machine by default."""
    settings, warnings = load(tmp_path, f"mode: rl\nrl: {{model: m, backend: {backend}, tinker_api_key: tml-1}}\n")
    assert (settings.rl.backend, settings.rl.api_key.get_secret_value()) == (backend, "tml-1")
    assert settings.rl.remote_api_key.get_secret_value() == ""
    assert "rl.tinker_api_key is now called rl.api_key; it was honoured" in warnings


@pytest.mark.parametrize("key", ["tinker_api_key", "api_key"])
def test_an_older_file_with_a_key_and_no_backend_means_the_cloud_of_that_key(tmp_path: Path, key: str):
    settings, warnings = load(tmp_path, f"mode: rl\nrl: {{model: m, {key}: tml-1}}\n")
    assert settings.rl.backend == "tinker"
    assert any("'auto' is used" in line for line in warnings)


def test_one_command_leads_away_from_a_training_cloud(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("mode: auto\nrl: {backend: mint, tinker_api_key: tml-1}\n")
    set_value(tmp_path, "rl.backend", "remote")
    assert read_settings(tmp_path, {})[0].rl.backend == "remote"


@pytest.mark.parametrize("key", ["tinker_api_key", "api_key"])
def test_a_key_of_a_cloud_beside_a_server_of_ones_own_is_not_sent_there(tmp_path: Path, key: str):
    settings, warnings = load(tmp_path, f"mode: rl\nrl:\n  backend: remote\n  {key}: tml-1\n")
    assert settings.rl.remote_api_key.get_secret_value() == ""
    assert any("rl.api_key belongs to a training cloud and is sent nowhere" in line for line in warnings)


def test_an_empty_old_value_is_not_set(tmp_path: Path):
    settings, _ = load(
        tmp_path, "mode: rl\nrl: {prm_url: '', prm_model: , tinker_api_key: '', api_key: , base_url: ''}\n"
    )
    assert settings.rl == RlSettings()


OLD_JUDGE = "prm_url: https://api.openai.com/v1, prm_model: gpt-5.2"


@pytest.mark.parametrize("key", ["", ", prm_api_key: ''"])
def test_the_old_default_judge_without_a_key_is_no_judge(tmp_path: Path, key: str):
    """It would silence the warning that nothing scores the answers."""
    settings, warnings = load(tmp_path, f"rl: {{{OLD_JUDGE}{key}}}\n")
    assert (settings.rl.judge.url, settings.rl.judge.model) == ("", "")
    assert warnings == ["rl.prm_url and rl.prm_model are ignored: that is the default of older releases, without a key"]


@pytest.mark.parametrize("key", ["prm_api_key: sk-2", "judge: {api_key: sk-2}"])
def test_the_old_default_judge_with_a_key_and_any_other_without_one_are_honoured(tmp_path: Path, key: str):
    judge = load(tmp_path, f"rl: {{{OLD_JUDGE}, {key}}}\n")[0].rl.judge
    assert (judge.url, judge.model) == ("https://api.openai.com/v1", "gpt-5.2")
    judge = load(tmp_path, "rl: {prm_url: http://127.0.0.1:9/v1, prm_model: m, prm_api_key: ''}\n")[0].rl.judge
    assert (judge.url, judge.model) == ("http://127.0.0.1:9/v1", "m")


def test_the_warm_up_that_was_counted_in_updates_is_honoured(tmp_path: Path):
    """A home of November 2026 that had it was refused by every command."""
    (tmp_path / "config.yaml").write_text("rl: {update: {warmup_updates: 2}}", encoding="utf-8")
    settings, warnings = read_settings(tmp_path, env={})
    assert settings.rl.update.warmup_steps == 2
    assert any("rl.update.warmup_steps" in warning for warning in warnings)


def test_a_new_name_beside_the_old_one_wins(tmp_path: Path):
    settings, warnings = load(tmp_path, "rl:\n  prm_model: old\n  judge:\n    model: new\n")
    assert settings.rl.judge.model == "new"
    assert warnings == ["rl.prm_model is ignored, because rl.judge.model, its name today, is set too"]


@pytest.mark.parametrize("key", ["", ", api_key: ''", ", api_key: "])
def test_the_old_open_bind_without_a_key_is_loopback(tmp_path: Path, key: str):
    """PITFALLS S1: every file of the reference says 0.0.0.0, and it did not start here."""
    settings, warnings = load(tmp_path, f"proxy: {{host: 0.0.0.0{key}}}\n")
    assert settings.proxy.host == "127.0.0.1"
    assert [line.startswith("proxy.host: 0.0.0.0 lets other machines in") for line in warnings] == [True]
    set_value(tmp_path, "proxy.port", "1")  # and such a file can be edited


def test_the_old_open_bind_with_a_key_from_anywhere_is_what_it_says(tmp_path: Path):
    assert load(tmp_path, "proxy: {host: 0.0.0.0, api_key: mine}\n") == (read_settings(tmp_path, {})[0], [])
    (tmp_path / "config.yaml").write_text("proxy: {host: 0.0.0.0}\n")
    settings, warnings = read_settings(tmp_path, {"METACLAW_PROXY_API_KEY": "mine"})
    assert (settings.proxy.host, warnings) == ("0.0.0.0", [])


def test_an_open_bind_that_somebody_asked_for_now_is_still_refused_without_a_key(tmp_path: Path):
    """PITFALLS S1: only the address in the file can be an old default."""
    with pytest.raises(ConfigError, match=r"proxy: host '0\.0\.0\.0'"):
        read_settings(tmp_path, {"METACLAW_PROXY_HOST": "0.0.0.0"})
    with pytest.raises(ConfigError, match=r"proxy: host '0\.0\.0\.0'"):
        set_value(tmp_path, "proxy.host", "0.0.0.0")
    with pytest.raises(ConfigError, match=r"proxy: host '192\.168\.1\.5'"):
        load(tmp_path, "proxy: {host: 192.168.1.5}\n")


def test_a_mistake_under_an_old_name_names_the_old_name(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"rl\.prm_url in "):
        load(tmp_path, "rl:\n  prm_url: nonsense\n")


def test_more_skills_than_are_recalled_now_is_the_most_with_a_warning(tmp_path: Path):
    settings, warnings = load(tmp_path, "skills: {top_k: 50}\n")
    assert settings.skills.top_k == 20
    assert warnings == ["skills.top_k: 50 is more than 20, the most that is recalled now"]
    with pytest.raises(ConfigError, match=r"skills\.top_k: '50' is not valid"):
        set_value(tmp_path, "skills.top_k", "50")


GROUPS = ["memory", "scheduler", "openrouter", "wechat", "opd", "agents", "synergy", "openclaw_env"]


@pytest.mark.parametrize("text", [*(f"{group}:\n" for group in GROUPS), "scheduler: {calendar: }\n", "agents: {a: }\n"])
def test_an_old_group_with_nothing_under_it_is_not_set(tmp_path: Path, text: str):
    load(tmp_path, text)


@pytest.mark.parametrize("text", ["memor:\n", "scheduler: {calender: }\n", "agents: {a: {b: }}\n"])
def test_an_empty_group_that_no_release_knew_is_refused(tmp_path: Path, text: str):
    with pytest.raises(ConfigError, match="unknown key"):
        load(tmp_path, text)


CODE_ONLY = [
    "max_steps", "renderer", "use_prm", "use_opd", "save_weights_timeout_s", "teacher_api_base", "teacher_key",
    "teacher_url", "teacher_model", "teacher_api_key", "kl_penalty_coef", "skill_update_threshold",
    "max_new_skills", "memory_flush_every", "synergy.token_budget", "synergy.skill_ratio", "synergy.dedup",
    "synergy_enabled", "record_enabled", "record_dir", "openclaw_env.data_dir", "openclaw_env.split",
    "openclaw_env.concurrency", "openclaw_env_max_steps",
]  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "rl."])
@pytest.mark.parametrize("name", CODE_ONLY)
def test_what_older_releases_settled_in_code_alone_is_named(tmp_path: Path, prefix: str, name: str):
    text = "1"
    for part in reversed(f"{prefix}{name}".split(".")):
        text = f"{{{part}: {text}}}"
    (warning,) = load(tmp_path, text)[1]
    assert warning.startswith(f"{prefix}{name} was never read from a configuration file, and does nothing")


@pytest.mark.parametrize("why", IGNORED)
def test_a_reason_names_settings_that_there_are(why: str):
    for setting in re.findall(r"(?<![A-Za-z/])[a-z_]+(?:\.[a-z_]+)+", why):
        assert setting in setting_keys()


def test_the_fork_wrote_an_empty_address_of_the_training_server_into_every_file(tmp_path: Path):
    """Every command refused such a file."""
    settings, _ = load(tmp_path, "rl: {backend: auto, remote_url: '', remote_api_key: '', remote_timeout_s: 600}\n")
    assert settings.rl == RlSettings()
    with pytest.raises(ConfigError, match="is not a URL"):
        set_value(tmp_path, "rl.remote_url", "")


@pytest.mark.parametrize("model", ["", "rl: {evolver_model: gpt-5.2, evolver_api_base: ''}\n"])
def test_nobody_is_sent_what_failed_because_an_older_file_said_so_of_the_model_that_answers(tmp_path: Path, model: str):
    settings, warnings = load(tmp_path, f"skills: {{auto_evolve: true}}\n{model}")
    assert (settings.evolver.model, settings.evolver.has_place) == ("", False)
    (warning,) = warnings
    assert warning.startswith("skills.auto_evolve")
    assert "`metaclaw setup --learn`" in warning


def test_one_region_was_that_of_every_model_at_amazon(tmp_path: Path):
    settings, warnings = load(tmp_path, "bedrock_region: eu-west-1\nrl: {prm_provider: bedrock, prm_model: m}\n")
    assert (settings.llm.bedrock_region, settings.rl.judge.bedrock_region) == ("eu-west-1", "eu-west-1")
    assert "bedrock_region is now called llm.bedrock_region; it was honoured" in warnings
    settings, _ = load(tmp_path, "llm: {bedrock_region: eu-west-1}\nrl: {judge: {provider: bedrock, model: m}}\n")
    assert settings.rl.judge.bedrock_region == "us-east-1", "a file of today says it of each"


def test_the_old_name_of_a_mode_is_honoured_wherever_it_is_given(tmp_path: Path):
    given = {"rl.model": "m", "mode": "madmax"}
    settings, warnings = read_settings(tmp_path, {}, given)
    assert (settings.mode, warnings) == ("auto", ["mode: 'madmax' is now called 'auto'; it was honoured"])
    assert read_settings(tmp_path, {"METACLAW_MODE": "madmax", "METACLAW_RL_MODEL": "m"})[0].mode == "auto"
    set_value(tmp_path, "mode", "madmax")
    assert read_settings(tmp_path, {})[0].mode == "auto"


def test_the_key_of_a_cloud_in_a_variable_is_not_left_unused_in_silence(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("mode: rl\nrl: {model: m}\n")
    settings, (warning,) = read_settings(tmp_path, {"TINKER_API_KEY": "tml-1"})
    assert settings.rl.backend == "remote"
    assert warning.startswith("TINKER_API_KEY is set and not used")
    for text in ("mode: rl\nrl: {model: m, backend: remote}\n", "mode: skills_only\n"):
        (tmp_path / "config.yaml").write_text(text)
        assert read_settings(tmp_path, {"TINKER_API_KEY": "tml-1"})[1] == []


def test_a_key_that_no_release_knew_is_still_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"unknown key 'memory\.enable'"):
        load(tmp_path, "memory:\n  enable: true\n")


def test_the_table_holds_no_key_that_is_a_setting_again():
    """When a room arrives, its keys leave the table: they would be ignored otherwise."""
    patterns = {pattern for group in IGNORED.values() for pattern in group}
    assert not [name for name in setting_keys() if is_legacy(name)]
    assert not (patterns | RENAMED.keys()) & setting_keys().keys()
    assert set(RENAMED.values()) <= setting_keys().keys()
    assert {name for name, _ in RENAMED_VALUES} <= setting_keys().keys()


def test_who_writes_skills_is_found_under_its_names_of_today(tmp_path: Path):
    old = "evolver_api_base: https://evolver.example/v1, evolver_model: big, evolver_api_key: sk-3"
    settings, warnings = load(tmp_path, f"skills: {{auto_evolve: false}}\nrl: {{{old}}}\n")
    evolver = settings.evolver
    assert (evolver.url, evolver.model, evolver.enabled) == ("https://evolver.example/v1", "big", False)
    assert evolver.api_key.get_secret_value() == "sk-3"
    assert "skills.auto_evolve is now called evolver.enabled; it was honoured" in warnings


def test_whoever_trained_on_command_alone_still_does(tmp_path: Path):
    settings, _ = load(tmp_path, "mode: auto\nrl: {model: m, manual_train_trigger: true}\n")
    assert settings.rl.update.when_asked_only
    assert not settings.trains_in_windows


def test_a_judge_and_an_evolver_at_amazon_stay_there(tmp_path: Path):
    """SPEC A3: what `prm_provider` and `evolver_provider` said, whatever URL of OpenAI's stood beside it by default."""
    settings, warnings = load(
        tmp_path,
        "rl: {prm_provider: bedrock, prm_url: https://api.openai.com/v1, prm_model: us.anthropic.claude-x-v1:0,\n"
        "     evolver_provider: bedrock, evolver_model: us.anthropic.claude-y-v1:0}\n",
    )
    judge, evolver = settings.rl.judge, settings.evolver
    assert (judge.provider, judge.url, judge.model) == ("bedrock", "", "us.anthropic.claude-x-v1:0")
    assert (evolver.provider, evolver.model, evolver.has_place) == ("bedrock", "us.anthropic.claude-y-v1:0", True)
    assert "rl.prm_provider is now called rl.judge.provider; it was honoured" in warnings


def test_openai_as_provider_meant_the_url_and_is_no_judge_without_one(tmp_path: Path):
    settings, _ = load(tmp_path, "rl: {prm_provider: openai, prm_url: https://api.openai.com/v1, prm_api_key: ''}\n")
    assert not settings.rl.judge.has_model
    settings, _ = load(tmp_path, "rl: {prm_provider: openai, prm_url: 'http://127.0.0.1:9/v1', prm_api_key: sk-1}\n")
    assert (settings.rl.judge.provider, settings.rl.judge.url) == ("", "http://127.0.0.1:9/v1")


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_of_older_releases_is_not_read_and_never_ignored_in_silence(tmp_path: Path, name: str):
    as_it_was, _ = read_settings(tmp_path, {})
    settings, warnings = read_settings(tmp_path, {name: "something"})
    assert settings == as_it_was
    (warning,) = warnings
    assert warning.startswith(f"{name} ")
    for setting in re.findall(r"[a-z_]+(?:\.[a-z_]+)+", warning):
        assert setting in setting_keys()


def test_tidied_a_file_means_the_same_and_says_it_in_todays_names(tmp_path: Path):
    theirs = f"# mine\n{REFERENCE}"
    before, warnings = load(tmp_path, theirs)
    assert has_older_names(tmp_path)
    copy, told = tidy_names(tmp_path)
    assert told == warnings
    assert copy is not None
    assert (copy.read_text(), copy.stat().st_mode & 0o777) == (theirs, 0o600)
    assert read_settings(tmp_path, {}) == (before, [])
    text = (tmp_path / "config.yaml").read_text()
    assert text.startswith("# mine\nmode: auto\n")
    for gone in ("madmax", "prm_", "claw_type", "wechat", "openclaw_compat", "batch_size"):
        assert gone not in text
    assert not has_older_names(tmp_path)
    assert tidy_names(tmp_path) == (None, []), "once is enough"


def test_a_file_that_cannot_be_understood_is_not_tidied(tmp_path: Path):
    text = "claw_type: copaw\nmemory: {enable: true}\n"
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match="unknown key"):
        tidy_names(tmp_path)
    assert [path.name for path in tmp_path.glob("config*")] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == text


def test_a_copy_of_a_file_never_replaces_an_earlier_one(tmp_path: Path):
    copies: list[Path | None] = []
    for program in ("copaw", "hermes"):
        (tmp_path / "config.yaml").write_text(f"claw_type: {program}\n")
        copies.append(tidy_names(tmp_path)[0])
    assert [copy and copy.read_text() for copy in copies] == ["claw_type: copaw\n", "claw_type: hermes\n"]
