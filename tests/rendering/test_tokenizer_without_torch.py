"""The API process loads a tokenizer without torch, and it is the one that AutoTokenizer would load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer, Qwen2Tokenizer

from metaclaw.rendering.tokenizer import load_tokenizer
from tests.fakes.tiny_model import byte_tokenizer

TEXT = "Grüße, 123 tokens\n\n  and <|im_end|> — 日本"
_LOAD = """
import sys
from pathlib import Path
from metaclaw.rendering.tokenizer import load_tokenizer
assert load_tokenizer(Path(sys.argv[1])).encode("text")
assert "torch" not in sys.modules
"""


@pytest.fixture(params=["plain", "qwen"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    plain = byte_tokenizer()
    if request.param == "qwen":
        qwen = Qwen2Tokenizer(vocab=plain.get_vocab(), merges=[])
        qwen.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
        qwen.save_pretrained(tmp_path)
    else:
        plain.save_pretrained(tmp_path)
    return tmp_path


def test_it_is_what_the_library_itself_would_choose(folder: Path):
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert type(ours) is type(theirs)
    assert ours.encode(TEXT) == theirs.encode(TEXT)
    assert ours.decode(ours.encode(TEXT)) == theirs.decode(theirs.encode(TEXT))


def test_torch_stays_out_of_the_process(folder: Path):
    subprocess.run([sys.executable, "-c", _LOAD, str(folder)], check=True)
