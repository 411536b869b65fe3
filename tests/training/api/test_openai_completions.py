"""``/v1/completions`` through the official SDK."""

from __future__ import annotations

import openai
import pytest

from tests.fakes.tiny_model import byte_tokenizer

TOKENIZER = byte_tokenizer()
BASE = {"model": "tiny-qwen3", "max_tokens": 6, "seed": 3}


def test_a_prompt_of_text_and_one_of_its_tokens_are_the_same(chat):
    text = chat.completions.create(**BASE, prompt="ab")
    assert chat.completions.create(**BASE, prompt=TOKENIZER.encode("ab")).choices[0].text == text.choices[0].text
    assert (text.object, text.usage.prompt_tokens, text.usage.completion_tokens) == ("text_completion", 2, 6)
    assert text.choices[0].finish_reason == "length"


@pytest.mark.parametrize("prompt", [["ab", "cde"], [TOKENIZER.encode("ab"), TOKENIZER.encode("cde")]])
def test_several_prompts_have_their_answers_in_order(chat, prompt):
    answer = chat.completions.create(**BASE, prompt=prompt, n=2, best_of=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage.prompt_tokens == 5
    assert answer.choices[2].text == chat.completions.create(**BASE, prompt="cde", n=2).choices[0].text


@pytest.mark.parametrize("n", [1, 2])
def test_a_stream_is_the_same_answer_in_pieces(chat, n):
    asked = {**BASE, "prompt": ["ab", "cde"], "n": n, "echo": True, "logprobs": 2}
    whole = chat.completions.create(**asked)
    texts, scored = {}, {}
    for chunk in chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
            scored.setdefault(choice.index, []).extend(choice.logprobs.tokens)
    assert [texts[choice.index] for choice in whole.choices] == [choice.text for choice in whole.choices]
    assert [scored[choice.index] for choice in whole.choices] == [choice.logprobs.tokens for choice in whole.choices]
    assert chunk.usage.completion_tokens == whole.usage.completion_tokens


def test_an_echo_begins_with_the_prompt_and_scores_it(chat):
    choice = chat.completions.create(**BASE, prompt="abc", echo=True, logprobs=3).choices[0]
    assert choice.text.startswith("abc")
    scored = choice.logprobs
    assert scored.tokens[:3] == ["a", "b", "c"]
    assert scored.text_offset[:4] == [0, 1, 2, 3]
    assert scored.token_logprobs[0] is None
    assert scored.top_logprobs[0] is None
    for token, logprob, top in zip(scored.tokens[1:], scored.token_logprobs[1:], scored.top_logprobs[1:], strict=True):
        assert top[token] == logprob
        assert 3 <= len(top) <= 4
    alone = chat.completions.create(**BASE, prompt="abc", logprobs=3).choices[0].logprobs
    assert alone.token_logprobs == pytest.approx(scored.token_logprobs[3:])


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_but_the_prompts_scores(chat, stream):
    asked = {**BASE, "max_tokens": 0, "prompt": "abc", "echo": True, "logprobs": 1}
    answer = chat.completions.create(**asked, stream=stream)
    (choice,) = [c for chunk in answer for c in chunk.choices] if stream else answer.choices
    assert (choice.text, len(choice.logprobs.token_logprobs), choice.finish_reason) == ("abc", 3, "length")


def test_prompt_logprobs_and_token_ids_as_vllm_has_them(chat):
    extra = {"prompt_logprobs": 2, "return_token_ids": True}
    choice = chat.completions.create(**BASE, prompt="abc", extra_body=extra).choices[0].model_extra
    assert choice["prompt_token_ids"] == TOKENIZER.encode("abc")
    assert len(choice["token_ids"]) == 6
    assert choice["prompt_logprobs"][0] is None
    entry = choice["prompt_logprobs"][1][str(TOKENIZER.encode("b")[0])]
    assert entry["decoded_token"] == "b"
    assert entry["logprob"] < 0


def test_a_stop_string_is_cut(chat):
    text = chat.completions.create(**{**BASE, "max_tokens": 40}, prompt="ab").choices[0].text
    stop = text[4:6]
    cut = chat.completions.create(**{**BASE, "max_tokens": 40}, prompt="ab", stop=[stop]).choices[0]
    assert (cut.text, cut.finish_reason) == (text[: text.index(stop)], "stop")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": []}, "empty"),
        ({"prompt": ["a", ""]}, "empty"),
        ({"prompt": [10**6]}, "vocabulary"),
        ({"prompt": "x" * 1024}, "1024"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"n": 129}, "1 to 128"),
        ({"prompt": ["a"] * 65, "n": 2}, "at most 128"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"stop": ""}, "stop"),
        ({"frequency_penalty": 1}, "frequency_penalty"),
    ],
)
def test_what_cannot_be_served_is_refused(chat, change, words):
    with pytest.raises(openai.BadRequestError, match=words):
        chat.completions.create(**{**BASE, "prompt": "ab", **change})


def test_more_prompts_than_there_is_room_for_are_refused_and_the_room_is_given_back(chat):
    for _ in range(3):
        with pytest.raises(openai.RateLimitError):
            chat.completions.create(**BASE, prompt=["a"] * 120)
    assert len(chat.completions.create(**BASE, prompt=["a"] * 60).choices) == 60
