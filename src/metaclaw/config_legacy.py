"""Keys of older configuration files: where each of them went.

Owns one table; refuses to know how files are read. Invariant: a key that older releases documented is never an
error. It is honoured under its new name, or a warning says why it does nothing; a new name given beside it wins.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from metaclaw.config_keys import Given

RENAMED = {
    "bedrock_region": "llm.bedrock_region",
    "claw_type": "agent_program",
    "rl.evolver_api_base": "evolver.url",
    "rl.evolver_api_key": "evolver.api_key",
    "rl.evolver_model": "evolver.model",
    "rl.evolver_provider": "evolver.provider",
    "memory.max_injected_units": "recall.max_memories",
    "rl.learning_rate": "rl.update.learning_rate",
    "rl.loss_fn": "rl.update.loss",
    "rl.manual_train_trigger": "rl.update.when_asked_only",
    "rl.prm_api_key": "rl.judge.api_key",
    "rl.prm_m": "rl.judge.votes",
    "rl.prm_max_new_tokens": "rl.judge.max_tokens",
    "rl.prm_model": "rl.judge.model",
    "rl.prm_provider": "rl.judge.provider",
    "rl.prm_temperature": "rl.judge.temperature",
    "rl.prm_url": "rl.judge.url",
    "rl.resume_from_ckpt": "rl.resume_from",
    "rl.tinker_api_key": "rl.api_key",
    "rl.tinker_base_url": "rl.base_url",
    "rl.update.warmup_updates": "rl.update.warmup_steps",
    "skills.auto_evolve": "evolver.enabled",
    "skills.max_tokens": "recall.max_tokens",
    "skills.retrieval_mode": "skills.retrieval",
}

_DEFAULT_HOST = "0.0.0.0"
_DEFAULT_PRM_URL = "https://api.openai.com/v1"

# A value that was renamed: (key, old value) -> new value.
RENAMED_VALUES = {
    ("agent_program", "copaw"): "qwenpaw",
    ("mode", "madmax"): "auto",
    ("skills.retrieval", "template"): "lexical",
    ("skills.retrieval", "embedding"): "auto",  # it may name no embedder yet
}

_MAX_TOP_K = 20  # older releases had no limit

_TEACHER = "rl.opd.url, rl.opd.model and rl.opd.api_key name a teacher, and opd in rl.update.methods has it teach"


def _code_only(*names: str) -> tuple[str, ...]:
    """Names of what older releases settled in their code alone: a user may have tried each, alone or under `rl`."""
    return (*names, *(f"rl.{name}" for name in names))


# Why a key does nothing -> the keys, as patterns.
IGNORED: dict[str, tuple[str, ...]] = {
    "is obsolete: evolver.min_failures says how many failures are enough, and other turns are no reason": (
        "skills.evolution_every_n_turns",
    ),
    "is obsolete: `mode` alone decides (`metaclaw config mode rl`, or auto)": ("rl.enabled",),
    "is obsolete: `metaclaw train-server --base-model` says what is trained, there": ("rl.remote_model_path",),
    "is obsolete: rl.update.min_exchanges says how much an update needs, and fewer than 16 exchanges teach noise": (
        "rl.batch_size",
    ),
    "is obsolete: starting MetaClaw never rewires an agent program; `metaclaw connect openclaw` does": (
        "configure_openclaw",
    ),
    "is obsolete: max_context_tokens limits what is sent to a model": ("context_window",),
    "is obsolete: skills are chosen for each exchange, at most skills.top_k of them": (
        "skills.task_specific_top_k",
    ),
    "is obsolete: embeddings.url or embeddings.path names what finds by meaning, and words are looked for always": (
        "memory.retrieval_mode", "memory.use_embeddings", "memory.embedding_mode", "memory.embedding_model",
        "memory.embedding_model_path",
    ),
    "is obsolete: recall.max_tokens is the budget of skills and memories together": ("memory.max_injected_tokens",),
    "is obsolete: clients say whose memories they mean by X-Memory-Scope, X-User-Id and X-Workspace-Id": (
        "memory.scope",
    ),
    "is obsolete: memory.enabled alone decides, and contradictions and repetitions are always settled": (
        "memory.auto_extract", "memory.auto_consolidate", "memory.manual_trigger",
    ),
    "is obsolete: side turns are never remembered": ("memory.ignore_turn_type",),
    "is obsolete: memories have no policy that rewrites itself": (
        "memory.auto_upgrade_enabled", "memory.auto_upgrade_interval_seconds", "memory.auto_upgrade_require_review",
        "memory.review_stale_after_hours", "memory.policy_path", "memory.telemetry_path",
    ),
    "is obsolete: memory.dir is the folder of the store": ("memory.store_path",),
    "is obsolete: use the agent program's own channels (`openclaw channels login --channel openclaw-weixin`)": (
        "wechat.*",
    ),
    "is obsolete: `metaclaw connect openclaw` does what OpenClaw needs, `--memory-slot` also what its memory does": (
        "openclaw_compat.*",
    ),
    "was never read from a configuration file, and does nothing": (
        *_code_only("max_steps", "save_weights_timeout_s", "renderer", "renderer_name", "use_prm", "synergy.*",
                    "synergy_*"),
        "rl.bedrock_region",
    ),
    f"was never read from a configuration file, and does nothing: {_TEACHER}": (
        *_code_only("use_opd", "teacher_*", "kl_penalty_coef"),
    ),
    "was never read from a configuration file, and does nothing: evolver.max_new and evolver.min_failures do": (
        *_code_only("skill_update_threshold", "max_new_skills"),
        "skills.skill_update_threshold", "skills.max_new_skills",
    ),
    "was never read from a configuration file, and does nothing: memory.every_n_exchanges does": (
        *_code_only("memory_flush_every"), "memory.memory_flush_every", "memory.flush_every",
    ),
    "was never read from a configuration file, and does nothing: every turn is recorded, `metaclaw journal export`": (
        *_code_only("record_enabled", "record_dir"),
    ),
    "was never read from a configuration file, and does nothing: `metaclaw rollout TASKS` has such conversations": (
        *_code_only("openclaw_env.*", "openclaw_env_*"),
    ),
    "was documented but never did anything: recall.max_memories does": ("memory.top_k",),
    "was documented but never did anything: recall.max_tokens does": ("memory.max_tokens",),
    "was documented but never did anything: memory.every_n_exchanges does": ("memory.consolidation_interval",),
    f"was documented but never did anything: {_TEACHER}": ("opd.*",),
}  # fmt: skip

# Environment variables that older releases read, and what is set in their place. Another program may mean the same
# names, so they are told of and not read.
VARIABLES = {
    "PRM_MODEL": "rl.judge.model",
    "SKILL_EVOLVER_MODEL": "evolver.model",
    "METACLAW_USE_BEDROCK": "llm.provider, rl.judge.provider or evolver.provider to bedrock",
    "BEDROCK_MODEL": "rl.judge.model or evolver.model",
    "BEDROCK_REGION": "llm.bedrock_region, rl.judge.bedrock_region or evolver.bedrock_region",
    "METACLAW_API_KEY": "train_server.api_key or rl.remote_api_key, METACLAW_TRAIN_API_KEY for `metaclaw train-server`",
    "METACLAW_PORT": "train_server.port",
    "METACLAW_CHECKPOINT_DIR": "train_server.data_dir",
    "METACLAW_TRAINING_DEVICES": "train_server.training_devices",
    "METACLAW_INFERENCE_DEVICES": "train_server.inference_devices",
    "METACLAW_INFERENCE_BACKEND": "train_server.sampler",
    **{
        f"METACLAW_SIDECAR_{name}": "memory.sidecar_url, and `metaclaw memory serve` has --host and --port"
        for name in ("HOST", "PORT", "SCOPE", "MEMORY_DIR", "RETRIEVAL_MODE")
    },
}


def is_legacy(name: str) -> bool:
    """Whether ``name`` is a key of an older release."""
    return name in RENAMED or why_ignored(name) is not None


def is_legacy_group(name: str) -> bool:
    """Whether keys of an older release stood under ``name``; the group may be empty."""
    heads = (pattern.split(".")[:-1] for patterns in IGNORED.values() for pattern in patterns)
    depth = name.count(".") + 1
    return any(len(head) >= depth and fnmatchcase(name, ".".join(head[:depth])) for head in heads)


def current_name(name: str) -> str:
    """The name that a key has today; a name that was never changed is returned as it is."""
    return RENAMED.get(name, name)


def why_ignored(name: str) -> str | None:
    """Why a key of an older release does nothing; ``None`` when it is not such a key."""
    return next((why for why, patterns in IGNORED.items() if _any_match(name, patterns)), None)


def old_variables(env: Iterable[str]) -> list[str]:
    """What a user should know of variables that older releases read."""
    return [
        f"{name} was read by older releases, and is not: set {now}" for name, now in VARIABLES.items() if name in env
    ]


def translate(given: dict[str, Given]) -> tuple[dict[str, Given], list[str]]:
    """The same values under today's names, and what a user should know about the old ones."""
    warnings: list[str] = []
    given = _without_default_judge(_without_default_providers(given), warnings)
    given = _without_unnamed_evolver(given, warnings)
    given = _without_empty_url(_with_shared_region(given))
    known = {name: entry for name, entry in given.items() if not is_legacy(name)}
    for name, entry in given.items():
        if name in RENAMED:
            _rename(known, name, RENAMED[name], entry, warnings)
        elif why := why_ignored(name):
            warnings.append(f"{name} {why}")
    rename_values(known, warnings)
    _limit_top_k(known, warnings)
    _settle_cloud(known, warnings)
    return known, warnings


def close_default_host(given: dict[str, Given], file: str) -> list[str]:
    """Put loopback for the open address that older releases wrote into ``file``, unless a token was given anywhere.

    Changes ``given``, which holds what the variables and the flags say too; returns what a user should know.
    """
    host, token = given.get("proxy.host"), given.get("proxy.api_key")
    if host is None or (host.value, host.origin) != (_DEFAULT_HOST, file) or (token and token.value):
        return []
    given["proxy.host"] = Given(value="127.0.0.1", origin=file)
    return [
        f"proxy.host: {_DEFAULT_HOST} lets other machines in, and no proxy.api_key is set: 127.0.0.1 is used; "
        "`metaclaw setup` makes a token and writes it so"
    ]


def _without_default_providers(given: dict[str, Given]) -> dict[str, Given]:
    """Without ``openai``, which meant whatever the URL says, and with no URL of OpenAI's for a judge at Amazon's."""
    providers = ("rl.prm_provider", "rl.evolver_provider")
    left = {name: entry for name, entry in given.items() if name not in providers or entry.value != "openai"}
    if "rl.prm_provider" in left and _is_default_judge(left):
        del left["rl.prm_url"]
    return left


def _is_default_judge(given: dict[str, Given]) -> bool:
    url = given.get("rl.prm_url")
    return url is not None and str(url.value).rstrip("/") == _DEFAULT_PRM_URL


def _without_default_judge(given: dict[str, Given], warnings: list[str]) -> dict[str, Given]:
    # Older releases always wrote this URL. Without a key it never judged, and must not pass for a judge here.
    has_key = any(given[key].value for key in ("rl.prm_api_key", "rl.judge.api_key") if key in given)
    if has_key or not _is_default_judge(given):
        return given
    warnings.append("rl.prm_url and rl.prm_model are ignored: that is the default of older releases, without a key")
    return {name: entry for name, entry in given.items() if name not in ("rl.prm_url", "rl.prm_model")}


def _without_unnamed_evolver(given: dict[str, Given], warnings: list[str]) -> dict[str, Given]:
    # Older releases asked the model that answers. It is asked here when somebody has said so: it is sent what failed.
    places = ("rl.evolver_api_base", "rl.evolver_provider", "evolver.url", "evolver.provider")
    old = [name for name in ("skills.auto_evolve", "rl.evolver_model") if name in given and given[name].value]
    if not old or any(given[name].value for name in places if name in given):
        return given
    if (switch := given.get("skills.auto_evolve", given.get("evolver.enabled"))) and switch.value is False:
        return given
    warnings.append(
        f"{' and '.join(old)}: no model is asked for skills unless that is said: `metaclaw setup --learn` lets the one "
        "that answers judge and write them, evolver.url and evolver.model name another"
    )
    return {name: entry for name, entry in given.items() if name not in old}


def _with_shared_region(given: dict[str, Given]) -> dict[str, Given]:
    """One region was that of every model at Amazon."""
    region = given.get("llm.bedrock_region") or given.get("bedrock_region")
    if region is None:
        return given
    shared = {
        f"{part}.bedrock_region": region
        for part, provider in (("rl.judge", "rl.prm_provider"), ("evolver", "rl.evolver_provider"))
        if provider in given and given[provider].value == "bedrock"
    }
    return shared | given


def _without_empty_url(given: dict[str, Given]) -> dict[str, Given]:
    """Without the ``remote_url`` that the fork wrote into every file, mostly empty."""
    url = given.get("rl.remote_url")
    return given if url is None or url.value != "" else {k: v for k, v in given.items() if k != "rl.remote_url"}


def _rename(known: dict[str, Given], old: str, new: str, entry: Given, warnings: list[str]) -> None:
    if entry.value in ("", None):  # how older files wrote "not set"
        return
    if new in known:
        warnings.append(f"{old} is ignored, because {new}, its name today, is set too")
        return
    known[new] = Given(value=entry.value, origin=f"{old} in {entry.origin}")
    warnings.append(f"{old} is now called {new}; it was honoured")


def rename_values(known: dict[str, Given], warnings: list[str]) -> None:
    """Put today's values for those that were renamed, and say so in ``warnings``."""
    for (name, old), new in RENAMED_VALUES.items():
        if name in known and known[name].value == old:
            known[name] = Given(value=new, origin=known[name].origin)
            warnings.append(f"{name}: {old!r} is now called {new!r}; it was honoured")


def _limit_top_k(known: dict[str, Given], warnings: list[str]) -> None:
    entry = known.get("skills.top_k")
    if entry and isinstance(entry.value, int) and entry.value > _MAX_TOP_K:
        known["skills.top_k"] = Given(value=_MAX_TOP_K, origin=entry.origin)
        warnings.append(f"skills.top_k: {entry.value} is more than {_MAX_TOP_K}, the most that is recalled now")


def _settle_cloud(known: dict[str, Given], warnings: list[str]) -> None:
    # Older releases trained in a cloud only: whoever has a key of one meant one, named or not. It never goes to ours.
    key, backend = known.get("rl.api_key"), known.get("rl.backend")
    if key is None or key.value in ("", None):
        known.pop("rl.api_key", None)
    elif backend is None:
        known["rl.backend"] = Given(value="auto", origin=key.origin)
        warnings.append("rl.backend is not set, and rl.api_key is that of a training cloud: 'auto' is used")
    elif backend.value == "remote":
        warnings.append("rl.api_key belongs to a training cloud and is sent nowhere, because rl.backend is 'remote'")
    if (url := known.get("rl.base_url")) and url.value in ("", None):
        known.pop("rl.base_url")


def _any_match(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
