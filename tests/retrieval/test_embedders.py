"""Where vectors come from: an endpoint over HTTP, a folder; and what happens when they do not come."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from pydantic import SecretStr
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from metaclaw.config import EmbeddingSettings
from metaclaw.errors import ConfigError, UpstreamError
from metaclaw.retrieval.breaker import Breaker
from metaclaw.retrieval.configured import open_embedder
from metaclaw.retrieval.embedder import Kind
from metaclaw.retrieval.static_embedder import StaticEmbedder
from metaclaw.retrieval.vectors import Vectors
from metaclaw.upstreams.session import new_session
from tests.fakes.embedding_api import EmbeddingApi, embedding_api


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


pytestmark = pytest.mark.anyio


@pytest.fixture
async def session() -> AsyncGenerator[aiohttp.ClientSession]:
    async with new_session() as opened:
        yield opened


@pytest.fixture
async def api() -> AsyncGenerator[EmbeddingApi]:
    async with embedding_api() as running:
        yield running


def settings_for(api: EmbeddingApi, **changes: object) -> EmbeddingSettings:
    given = {"url": api.url, "model": "tiny", "api_key": "sk-secret", "timeout_s": 30.0, **changes}
    return EmbeddingSettings.model_validate(given)


def opened(settings: EmbeddingSettings, session: aiohttp.ClientSession) -> Breaker:
    embedder = open_embedder(settings, session)
    assert embedder is not None
    return embedder


async def test_an_endpoint_is_asked_in_batches_and_its_rows_come_back_in_order(api, session):
    embedder = opened(settings_for(api, passage_prefix="passage: "), session)
    texts = [f"text {n} about {'git' if n % 2 else 'mail'}" for n in range(150)]
    rows = await embedder.embed(texts, kind="passage")
    assert rows is not None
    assert rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)
    assert np.allclose(rows[1::2], rows[1])
    assert np.allclose(rows[::2], rows[0])
    assert [len(body["input"]) for body in api.asked] == [64, 64, 22]
    assert api.asked[0]["input"][0] == "passage: text 0 about mail"
    assert {body["model"] for body in api.asked} == {"tiny"}
    assert set(api.keys) == {"Bearer sk-secret"}


async def test_long_and_empty_texts_are_sent_as_endpoints_take_them(api, session):
    rows = await opened(settings_for(api), session).embed(["x" * 100_000, "", "  "], kind="query")
    assert rows is not None
    assert len(rows) == 3
    assert [len(text) for text in api.asked[0]["input"]] == [8000, 1, 1]


def row(embedding: object, index: int = 0) -> dict[str, object]:
    return {"index": index, "embedding": embedding}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"data": []}, "0 vectors for 1 texts"),
        ({"data": [row([1.0], 1)]}, "1 vectors for 1 texts"),
        ({"data": [row([])], "extra": 1}, "cannot be compared"),
        ({"data": [row([1.0, None])]}, "no list of embeddings"),
        ({"data": "none"}, "no list of embeddings"),
        ({"vectors": []}, "no list of embeddings"),
    ],
)
async def test_an_answer_that_is_none_is_an_error_that_names_the_setting(api, session, answer, says):
    embedder = opened(settings_for(api), session)
    api.answers.append(lambda body: web.json_response(answer))
    with pytest.raises(UpstreamError, match=says) as caught:
        await embedder.embedder.embed(["x"], kind="query")
    assert "embeddings.url" in str(caught.value)


async def test_a_refused_key_names_its_setting_and_never_the_key(api, session):
    embedder = opened(settings_for(api), session)
    api.answers.append(lambda body: web.json_response({"error": {"message": "bad sk-secret"}}, status=401))
    with pytest.raises(UpstreamError, match=r"embeddings\.api_key") as caught:
        await embedder.embedder.embed(["x"], kind="query")
    assert "sk-secret" not in str(caught.value)


class Sometimes:
    """An embedder that is down when it is told so."""

    name = "sometimes"

    def __init__(self) -> None:
        self.is_down = False
        self.num_asked = 0

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> Vectors:
        self.num_asked += 1
        if self.is_down:
            raise UpstreamError("nobody there")
        return np.ones((len(texts), 1), np.float32)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_dead_endpoint_is_left_alone_and_asked_again_later(caplog: pytest.LogCaptureFixture):
    embedder, clock = Sometimes(), Clock()
    breaker = Breaker(embedder, clock=clock)
    assert await breaker.embed(["x"], kind="query") is not None
    embedder.is_down = True
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            assert await breaker.embed(["x"], kind="query") is None
        assert (embedder.num_asked, breaker.num_failures, breaker.num_without) == (2, 1, 5)
        assert breaker.is_resting
        clock.now = 15
        assert await breaker.embed(["x"], kind="query") is None
        clock.now = 44
        assert await breaker.embed(["x"], kind="query") is None, "it rests twice as long after a second failure"
        assert embedder.num_asked == 3
        clock.now, embedder.is_down = 45, False
        assert await breaker.embed(["x"], kind="query") is not None
        assert not breaker.is_resting
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "nobody there" in caplog.text


def make_model(folder: Path, *, names: str = "embeddings", **more: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    words = ["[UNK]", "cat", "feline", "stock", "market"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.array([[0, 0], [1, 0.1], [1, 0], [0, 1], [0.1, 1]], np.float16)
    save_file({names: table, **more}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("names", ["embeddings", "embedding.weight"])
async def test_a_folder_with_a_table_of_word_pieces_is_a_model(tmp_path: Path, session, names: str):
    folder = make_model(tmp_path / "tiny", names=names)
    rows = await opened(EmbeddingSettings(path=folder), session).embed(
        ["the cat", "feline", "stock market", "", "unknown words"] * 8, kind="query"
    )
    assert rows is not None
    assert rows.shape == (40, 2)
    likeness = rows @ rows[1]
    assert likeness[0] > 0.95
    assert likeness[2] < 0.2
    assert not rows[3].any()
    assert not rows[4].any()


async def test_pieces_may_share_rows_and_count_differently(tmp_path: Path):
    """As model2vec writes models with few rows."""
    more = {"mapping": np.array([0, 1, 1, 3, 3]), "weights": np.array([0, 1, 1, 1, 5], np.float32)}
    rows = await StaticEmbedder.open(make_model(tmp_path / "tiny", **more)).embed(
        ["cat", "feline", "cat market"], kind="query"
    )
    assert np.allclose(rows[0], rows[1])
    assert rows[2] @ rows[0] < 0.4, "a heavier word decides"


def test_the_name_of_a_model_changes_with_its_table(tmp_path: Path):
    first = StaticEmbedder.open(make_model(tmp_path / "a" / "tiny")).name
    again = StaticEmbedder.open(make_model(tmp_path / "b" / "tiny")).name
    other = StaticEmbedder.open(make_model(tmp_path / "c" / "tiny", weights=np.full(5, 2, np.float32))).name
    assert first == again != other


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x" * 100), "model.safetensors"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer.json"),
        (lambda folder: save_file({"other": np.ones((2, 2))}, folder / "model.safetensors"), "no table"),
        (lambda folder: save_file({"embeddings": np.ones((2, 2))}, folder / "model.safetensors"), "more pieces"),
        (lambda folder: make_model(folder, mapping=np.array([0, 1, 2, 3, 9])), "leads out"),
        (lambda folder: make_model(folder, weights=np.ones(3, np.float32)), "one weight"),
    ],
)
def test_a_folder_that_is_no_model_is_refused_with_what_is_wrong(tmp_path: Path, spoil, says: str):
    folder = make_model(tmp_path / "tiny")
    spoil(folder)
    with pytest.raises(ConfigError, match=rf"embeddings\.path: .*{says}"):
        StaticEmbedder.open(folder)


async def test_without_a_setting_there_is_no_embedder(session):
    assert open_embedder(EmbeddingSettings(), session) is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"url": "http://127.0.0.1:1/v1"}, "embeddings.model is missing"),
        ({"url": "http://127.0.0.1:1/v1", "model": "m", "path": "/x"}, "exclude each other"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, object], says: str):
    with pytest.raises(ValueError, match=says):
        EmbeddingSettings.model_validate(given)


def test_a_key_is_a_secret():
    assert isinstance(EmbeddingSettings().api_key, SecretStr)
