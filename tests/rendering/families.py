"""Renderers of several model families, on one byte-level tokenizer: what differs is the template and the vocabulary."""

from __future__ import annotations

from functools import cache

from tokenizers import AddedToken

from metaclaw.rendering.renderer import Renderer
from tests.fakes.tiny_model import CHAT_TEMPLATE, SPECIAL, byte_tokenizer

# Qwen3's behaviour, in few words: the thinking of turns before the last question is dropped, tool results are the
# user's, ``enable_thinking=false`` closes the thinking at once.
QWEN3 = """\
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Call with <tool_call></tool_call>.<|im_end|>
{% endif %}
{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' %}
{%- set thought = m.reasoning_content or '' %}<|im_start|>assistant
{% if loop.index0 > ns.last and (loop.last or thought) %}<think>
{{ thought.strip('\\n') }}
</think>

{{ m.content.lstrip('\\n') }}{% else %}{{ m.content }}{% endif %}
{%- for call in m.tool_calls or [] %}{% if m.content or not loop.first %}
{% endif %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% elif m.role == 'tool' %}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}
<tool_response>
{{ m.content }}
</tool_response>{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>
{% endif %}
{%- else %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}{% endif %}"""

# Opens the thinking for the model, as DeepSeek's and Qwen's thinking-only models do; tools as Qwen3-Coder's.
OPENED = """\
{% if tools %}{{ tools | tojson }}<tool_call><function=x><parameter=y>{% endif %}
{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.role == 'assistant' and m.reasoning_content and loop.last %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
<think>
{% endif %}"""

CHATML = """\
{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

SMOLLM2 = (
    """{% if messages[0].role != 'system' %}<|im_start|>system
You are a helpful AI assistant.<|im_end|>
{% endif %}"""
    + CHATML
)

LLAMA = "{% if tools %}{{ tools | tojson }}<|python_tag|>{% endif %}" + CHATML

TEMPLATES = {
    "tiny": CHAT_TEMPLATE,
    "qwen3": QWEN3,
    "opened": OPENED,
    "chatml": CHATML,
    "smollm2": SMOLLM2,
    "llama": LLAMA,
}
TOOLS = [
    {"type": "function", "function": {"name": "look_up", "parameters": {"properties": {"n": {"type": "integer"}}}}}
]


@cache
def family(name: str, *, tags: str = "special") -> Renderer:
    """``tags``: whether the tags are special tokens, plain added tokens (as Qwen3's), or no tokens at all."""
    tokenizer = byte_tokenizer(SPECIAL if tags == "special" else SPECIAL[:3])
    if tags == "added":
        tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in SPECIAL[3:]])
    if name == "llama":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|python_tag|>"]}, False)
    tokenizer.chat_template = TEMPLATES[name]
    return Renderer(tokenizer, "digest")
