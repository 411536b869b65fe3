"""Files of agent programs as their users have them: with notes, odd layouts, and much that is not our business."""

from __future__ import annotations

OPENCLAW = """\
// OpenClaw — moje nastavení
{
    gateway: { mode: 'local', port: 18789, auth: {mode: "token", token: "their-own-secret"}, },
  "agents": {
        "defaults": {
            "workspace": "~/.openclaw/workspace",   // default
            "model": { "primary": "anthropic/claude-opus", "fallbacks": ["openai/gpt-5"] },
            "models": { "anthropic/claude-opus": {"alias": "opus"} },
            sandbox: { mode: "non-main", /* never touch */ scope: 'agent' },
        },
        entries: { main: {}, ops: { name: "Öps 🦞", model: "openai/gpt-5", }, },
  },
  tools: { exec: { security: "allowlist", ask: "on-miss" } },
  "plugins": { "load": { "paths": [ "/home/me/plugins/mine" ] },
    "entries": { "mine": { "enabled": true, },
    },
  },
  channels: { telegram: { botToken: '123:abc', }, }, // the end
}
"""
CLAUDE_CODE = """\
{
  // allowed without asking
  "permissions": {"allow": ["Bash(git log:*)"], "deny": ["Read(./.env)"], "defaultMode": "acceptEdits"},
\t"env": {
\t\t"EDITOR": "vim", "ANTHROPIC_MODEL": "opus"
\t},
  "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "echo 'fertig – ok'"}]}]}
}
"""
OPENCODE = """\
{
  "$schema": "https://opencode.ai/config.json",
  "model": "anthropic/claude-sonnet", // quick
  "provider": {
    "ollama": {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": "http://localhost:11434/v1"}},
  },
  "permission": {"edit": "ask", "bash": {"*": "ask", "git *": "allow"}}
}
"""
CODEX = """\
# Codex — nur für mich
model = "gpt-5.6"      # the big one
approval_policy = "on-request"
sandbox_mode = 'workspace-write'

[model_providers.corp]
name="Corp"
base_url = "https://corp.example/v1"

  [sandbox_workspace_write]
  network_access = false

[projects."/home/me/über"]
trust_level = "trusted"
"""
HERMES = """\
# hermes
model:
    default: anthropic/claude-opus   # dear
    provider:   openrouter
providers:
    corp:
        base_url: 'https://corp.example/v1'
        api_key: sk-theirs

terminal: {backend: docker, cwd: "/wörk"}
approvals:
  mode: manual
toolsets:
- all
"""
NANOBOT = """\
{
  "agents": {"defaults": {"workspace": "~/.nanobot/workspace", "model": "anthropic/claude", "maxTokens": 8192}},
  "providers": {
    "anthropic": {"apiKey": "sk-theirs"},
    "custom": {"apiKey": "old-key", "apiBase": "http://10.0.0.5/v1", "extraHeaders": {"X-Ü": "1"}}
  },
  "tools": {"restrictToWorkspace": true}
}
"""
PICOCLAW = """\
{
  "agents": { "defaults": { "workspace": "~/.picoclaw", "restrict_to_workspace": true, "model_name": "gpt" } },
  "model_list": [
    { "model_name": "gpt", "model": "openai/gpt-5.2", "api_key": "sk-theirs" },
    { "model_name": "größe", "model": "ollama/qwen3", "api_base": "http://localhost:11434/v1" }
  ]
}
"""
ZEROCLAW = """\
default_provider = "openrouter"
default_model = "anthropic/claude"
default_temperature = 0.7

[autonomy]
level = "supervised"   # bitte so lassen
workspace_only = true
allowed_commands = ["git",
    "ls"]

[providers.x]
api_key = "another table's"
model = "stays"
"""
IRONCLAW = """\
# IronClaw
DATABASE_URL="postgres://me:pw@localhost/ironclaw"
export LLM_BACKEND=nearai # default
NEARAI_MODEL = "claude"
SANDBOX_ENABLED=true
GREETING='grüß dich'
"""
NANOCLAW = """\
CLAUDE_CODE_OAUTH_TOKEN=theirs
ASSISTANT_NAME="Ändi"
ANTHROPIC_API_KEY=sk-old
CONTAINER_TIMEOUT=1800000"""
AIDER = """\
##  aider
model: sonnet        # dear but good
auto-commits: false
read: [CONVENTIONS.md,
       ÜBER.md]
"""
QWENPAW = '{"provider_id": "dashscope", "model": "qwen-max"}'
