"""Messages to tokens by the model's own template."""

from __future__ import annotations

import subprocess
import sys

import pytest

from metaclaw.errors import InvalidRequestError, ModelSourceError
from metaclaw.rendering.renderer import Renderer, load_renderer
from metaclaw.rendering.tokenizer import digest_of
from tests.fakes.tiny_model import byte_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def renderer(folder):
    return load_renderer(folder)


def shown(renderer, messages, tools=()):
    return renderer.tokenizer.decode(renderer.render(messages, tools))


def test_a_prompt_ends_where_the_assistant_begins(renderer):
    assert shown(renderer, [{"role": "user", "content": "hi"}]) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_text_parts_are_joined_and_developer_is_system(renderer):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    text = shown(renderer, [{"role": "developer", "content": parts}, {"role": "user", "content": None}])
    assert text.startswith("<|im_start|>system\nab<|im_end|>\n<|im_start|>user\n<|im_end|>")


def test_tool_arguments_are_not_quoted_twice(renderer):
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    text = shown(renderer, [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}])
    assert '{"name": "add", "arguments": {"a": 1}}' in text


def test_tools_reach_the_template(renderer):
    tool = {"type": "function", "function": {"name": "look_up"}}
    assert "look_up" in shown(renderer, [{"role": "user", "content": "x"}], [tool])


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "at least one"),
        ([{"role": "wizard", "content": "x"}], "'wizard'"),
        ([{"role": "user", "content": 3}], "text or a list"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "'image_url'"),
        ([{"role": "assistant", "tool_calls": [{"function": {}}]}], "tool_calls"),
    ],
)
def test_messages_that_no_template_could_show_are_refused(renderer, messages, reason):
    with pytest.raises(InvalidRequestError, match=reason):
        renderer.render(messages)


def with_template(template):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return Renderer(tokenizer, "digest")


def test_what_a_template_complains_of_is_the_callers_message():
    renderer = with_template("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidRequestError, match="roles must alternate"):
        renderer.render([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    "template", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ 'a' + none }}", "{% broken"]
)
def test_a_template_that_reaches_out_of_its_sandbox_is_refused(template):
    """PITFALLS S10: code from a model's folder is never run."""
    with pytest.raises(InvalidRequestError, match="template"):
        with_template(template).render([{"role": "user", "content": "x"}])


def test_a_model_without_a_template_says_so():
    with pytest.raises(InvalidRequestError, match="no chat template"):
        with_template(None).render([{"role": "user", "content": "x"}])


def test_the_digest_follows_the_template(folder, tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    assert digest_of(tmp_path) == digest_of(folder)
    tokenizer.chat_template += " "
    tokenizer.save_pretrained(tmp_path)
    assert digest_of(tmp_path) != digest_of(folder)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(ModelSourceError, match=str(tmp_path)):
        load_renderer(tmp_path)


def test_the_room_does_not_import_torch_by_itself():
    code = "import sys, metaclaw.rendering.renderer; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
