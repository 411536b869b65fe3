"""Proxies of the environment: which requests they get, and what is said when one refuses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from yarl import URL

import metaclaw
from metaclaw.errors import UpstreamError
from metaclaw.proxy_variables import exempt_this_machine
from metaclaw.upstreams.http_model import HttpModel
from metaclaw.upstreams.proxies import Proxies
from metaclaw.upstreams.session import new_session
from metaclaw.upstreams.upstream import Timeouts
from tests.fakes.forward_proxy import Certificate, ForwardProxy, forward_proxy
from tests.fakes.llm import Answer, FakeLlm, fake_llm
from tests.upstreams.test_http_model import BODY, KEY, raw_server, upstream

pytestmark = pytest.mark.anyio

LOGIN = "annie:se cret@%"
ENCODED = "annie:se%20cret%40%25"


def port_of(llm: FakeLlm) -> int:
    port = URL(llm.url).port
    assert port
    return port


def at(proxy: ForwardProxy, login: str = "") -> str:
    return f"http://{login}{'@' if login else ''}127.0.0.1:{proxy.port}"


async def asked(environment: Mapping[str, str], url: str = "http://model.test/v1") -> bytes:
    async with new_session(environment) as session:
        reply = await HttpModel(session, upstream(url)).chat(BODY)
        body = await reply.read()
        reply.close()
        return body


async def refused(environment: Mapping[str, str], url: str = "http://model.test/v1") -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await asked(environment, url)
    return caught.value


async def test_a_model_elsewhere_is_asked_through_the_proxy() -> None:
    async with fake_llm() as llm, forward_proxy({"model.test": port_of(llm)}) as proxy:
        assert b"[DONE]" in await asked({"HTTP_PROXY": at(proxy)})
    assert proxy.lines == ["POST http://model.test/v1/chat/completions"]
    assert llm.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert not [name for name in llm.headers[0] if name.lower().startswith("proxy-")]


async def test_a_proxys_password_goes_to_the_proxy_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with fake_llm() as llm, forward_proxy({"model.test": port_of(llm)}, login=LOGIN) as proxy:
        await asked({"all_proxy": at(proxy, ENCODED)})
        error = await refused({"all_proxy": at(proxy, "annie:wrong-secret")})
    assert error.status is None
    assert f"the proxy http://127.0.0.1:{proxy.port} of all_proxy wants another name and password" in str(error)
    said = caplog.text + str(error) + repr(error.__cause__)
    assert f"http://127.0.0.1:{proxy.port}" in caplog.text
    assert not [secret for secret in ("annie", "se cret", "se%20", "wrong-secret", KEY) if secret in said]


async def test_this_machine_and_no_proxy_are_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fake_llm() as llm, forward_proxy() as proxy:
        everywhere = {"HTTP_PROXY": at(proxy), "ALL_PROXY": at(proxy)}
        for host in ("127.0.0.1", "localhost"):
            await asked(everywhere, f"http://{host}:{port_of(llm)}/v1")
        resolve = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more))
        await asked({**everywhere, "NO_PROXY": "other.test, .test"}, f"http://model.test:{port_of(llm)}/v1")
    assert not proxy.lines
    assert len(llm.requests) == 3


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_exempt"),
    [
        ("", "https://api.test", False),
        ("*", "https://api.test", True),
        ("api.test", "https://api.test", True),
        ("API.test.", "https://api.TEST./", True),
        ("test", "https://api.test", True),
        (".api.test", "https://api.test", True),
        ("*.test", "https://api.test", True),
        ("pi.test", "https://api.test", False),
        (".", "https://api.test", False),
        (",, ", "https://api.test", False),
        ("api.test:8443", "https://api.test", False),
        ("api.test:443", "https://api.test", True),
        ("other.test api.test", "https://api.test", True),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.1.2.3:80", "http://10.1.2.3", True),
        ("10.1.2.3:81", "http://10.1.2.3", False),
        ("fd00::/8", "http://[fd00::1]", True),
        ("[fd00::1]:8000", "http://[fd00::1]:8000", True),
        ("[fd00::1]:8000", "http://[fd00::1]:8001", False),
        ("", "http://127.9.9.9:1", True),
        ("", "http://[::1]:1", True),
        ("", "http://0.0.0.0:1", True),
        ("", "http://[::ffff:127.0.0.1]:1", True),
        ("", "http://my.localhost", True),
        ("", "http://localhost.test", False),
    ],
)
def test_no_proxy_is_read_as_curl_does(no_proxy: str, url: str, is_exempt: bool) -> None:
    proxies = Proxies.of({"ALL_PROXY": "proxy.test:3128", "NO_PROXY": no_proxy})
    assert proxies is not None
    proxy = proxies.on_the_way_to(URL(url))
    assert (proxy is None) == is_exempt
    if proxy is not None:
        assert str(proxy.url) == "http://proxy.test:3128"


@pytest.mark.parametrize(
    ("environment", "http", "https"),
    [
        ({"HTTPS_PROXY": "http://a.test:1"}, None, "http://a.test:1"),
        ({"HTTP_PROXY": "http://a.test:1"}, "http://a.test:1", None),
        ({"HTTPS_PROXY": "http://a.test:1", "ALL_PROXY": "b.test:2"}, "http://b.test:2", "http://a.test:1"),
        ({"https_proxy": "http://a.test:1", "HTTPS_PROXY": "http://b.test:1"}, None, "http://a.test:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b.test:1"}, None, None),
        ({"HTTPS_PROXY": " ", "NO_PROXY": "x"}, None, None),
    ],
)
def test_each_scheme_has_its_variable(environment: dict[str, str], http: str | None, https: str | None) -> None:
    proxies = Proxies.of(environment)
    ways = [proxies and proxies.on_the_way_to(URL(f"{scheme}://api.test")) for scheme in ("http", "https")]
    assert [way and str(way.url) for way in ways] == [http, https]


async def test_a_proxy_that_cannot_be_had_is_named_as_the_trouble() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    gone = f"the proxy http://127.0.0.1:{port} of https_proxy cannot be reached"
    assert gone in str(await refused({"https_proxy": f"127.0.0.1:{port}"}, "https://model.test/v1"))
    unknown = await refused({"HTTP_PROXY": "http://no-such-proxy.test:3128"})
    assert "fake cannot be reached: the proxy http://no-such-proxy.test:3128 of HTTP_PROXY cannot be" in str(unknown)
    for value in ("socks5://ann:hush@127.0.0.1:1080", "http://ann:hu#sh@127.0.0.1:1", "http://"):
        unusable = str(await refused({"ALL_PROXY": value}))
        assert "of ALL_PROXY cannot be used" in unusable
        assert "hu" not in unusable


async def test_a_proxy_that_refuses_is_named_and_not_the_key(caplog: pytest.LogCaptureFixture) -> None:
    async with fake_llm() as llm, forward_proxy({"model.test": port_of(llm)}, refuses_with=403) as proxy:
        environment = {"HTTP_PROXY": at(proxy), "HTTPS_PROXY": at(proxy)}
        plain = await refused(environment)
        tunnel = await refused(environment, "https://model.test/v1")
    assert proxy.lines[0].startswith("POST http://")
    assert proxy.lines[-1] == "CONNECT model.test:443"
    for error in (plain, tunnel):
        assert error.status is None
        assert "of HTTP" in str(error)
        assert "answered 403 Refused" in str(error)
        assert "llm.api_key" not in str(error)


@pytest.mark.parametrize(
    ("said", "told"),
    [(b"SSH-2.0-OpenSSH\r\n", "no HTTP that can be read came through"), (b"", "the connection through")],
)
@pytest.mark.parametrize("url", ["http://model.test/v1", "https://model.test/v1"])
async def test_what_is_no_proxy_is_named_too(url: str, said: bytes, told: str) -> None:
    async with raw_server(said) as (there, _):
        port = URL(there).port
        error = await refused({"ALL_PROXY": f"http://annie:hush@127.0.0.1:{port}"}, url)
    assert f"fake cannot be reached: {told} the proxy http://127.0.0.1:{port} of ALL_PROXY" in str(error)
    assert "hush" not in f"{error} {error.__cause__!r}"


@pytest.mark.parametrize(
    ("url", "timeouts", "told"),
    [
        (
            "https://model.test/v1",
            Timeouts(connect_s=0.3),
            "fake could not be reached within 0.3 s: {proxy} let nothing through",
        ),
        ("http://model.test/v1", Timeouts(first_byte_s=0.3), "fake sent nothing for 0.3 s through {proxy}"),
    ],
)
async def test_a_proxy_that_takes_a_connection_and_says_nothing_is_named(
    url: str, timeouts: Timeouts, told: str
) -> None:
    async with forward_proxy(is_silent=True) as proxy, new_session({"ALL_PROXY": at(proxy, "annie:hush")}) as session:
        with pytest.raises(UpstreamError) as caught:
            await HttpModel(session, upstream(url, timeouts=timeouts)).chat(BODY)
    assert str(caught.value) == told.format(proxy=f"the proxy http://127.0.0.1:{proxy.port} of ALL_PROXY")
    assert len(proxy.lines) == 1  # nobody waits for it twice
    assert "hush" not in repr(caught.value.__cause__)


async def test_what_a_model_says_through_a_proxy_is_the_models() -> None:
    refusing = lambda _: Answer(status=503, body=b'{"error": {"message": "busy"}}')  # noqa: E731
    async with fake_llm(refusing) as llm, forward_proxy({"model.test": port_of(llm)}) as proxy:
        error = await refused({"HTTP_PROXY": at(proxy)})
    assert error.status == 503
    assert str(error) == "fake answered 503: busy"


async def test_a_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be sent to the model beside our key, or in its place where we have none."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login ann password hush\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with (
        fake_llm() as llm,
        forward_proxy({"model.test": port_of(llm)}) as proxy,
        new_session({"HTTP_PROXY": at(proxy)}) as session,
    ):
        (await HttpModel(session, upstream("http://model.test/v1", key="")).chat(BODY)).close()
    assert "Authorization" not in llm.headers[0]
    assert b"proxy-authorization" not in proxy.headers[0].lower()


@pytest.mark.parametrize("is_tls_to_proxy", [False, True])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_tls_goes_through_a_tunnel_that_the_proxy_cannot_read(
    tmp_path: Path, is_tls_to_proxy: bool, loop: str
) -> None:
    """As a process of its own: OpenSSL reads ``SSL_CERT_FILE`` once."""
    there, own = Certificate.of("model.test", tmp_path), Certificate.of("localhost", tmp_path)
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(there.file.read_bytes() + own.file.read_bytes())
    ask = tmp_path / "ask.py"
    ask.write_text(
        "import asyncio, os, uvloop\n"
        "from tests.upstreams.test_proxies import asked\n"
        f"run = {loop}.run\n"
        "print(run(asked(os.environ, 'https://model.test/v1'))[-20:])\n"
    )
    tls = own.server if is_tls_to_proxy else None
    async with fake_llm(tls=there.server) as llm, forward_proxy({"model.test": port_of(llm)}, tls=tls) as proxy:
        for file, is_trusted in ((trusted, True), (own.file, False)):
            scheme = "https" if is_tls_to_proxy else "http"
            environment = {
                **os.environ,
                "HTTPS_PROXY": f"{scheme}://localhost:{proxy.port}",
                "SSL_CERT_FILE": str(file),
                "PYTHONPATH": os.pathsep.join(sys.path),
            }
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-W", "error", ask, env=environment, stdout=-1, stderr=-1
            )
            told, wrong = await child.communicate()
            if is_trusted:
                assert b"[DONE]" in told, wrong
            elif (loop, is_tls_to_proxy) == ("asyncio", True):  # Python 3.11's own TLS within TLS breaks on its refusal
                assert b"fake cannot be reached" in wrong
            else:
                assert b"name the file of its certificate in SSL_CERT_FILE" in wrong
    assert set(proxy.lines) == {"CONNECT model.test:443"}
    assert not [head for head in proxy.headers if KEY.encode() in head]
    assert len(llm.requests) == 1


async def test_an_answer_streams_through_a_proxy_and_ends_when_it_is_left() -> None:
    async with (
        fake_llm(lambda _: Answer(hold_after=2)) as llm,
        forward_proxy({"model.test": port_of(llm)}) as proxy,
        new_session({"HTTP_PROXY": at(proxy)}) as session,
    ):
        reply = await HttpModel(session, upstream("http://model.test/v1")).chat(BODY)
        come = b""
        async with contextlib.aclosing(reply.chunks()) as chunks:
            while b"Hello" not in come:
                come += await anext(chunks)
        assert llm.num_finished == 0
        reply.close()
        await asyncio.wait_for(llm.was_left.wait(), 5)


def test_every_client_of_ours_knows_the_proxies() -> None:
    """vLLM alone is asked by a client of its own: it is a child on this machine."""
    source = Path(metaclaw.__file__).parent
    made = [path for path in source.rglob("*.py") if "ClientSession(" in path.read_text()]
    assert {str(path.relative_to(source)) for path in made} == {
        "upstreams/session.py",
        "training/samplers/vllm/process.py",
    }


async def test_an_sdk_asks_this_machine_directly_once_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Tinker SDK's client would send the training server's key to the company's proxy."""
    async with fake_llm() as llm, forward_proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", at(proxy))
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "")
        exempt_this_machine(os.environ)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{llm.url}/models")).status_code == 200
    assert not proxy.lines


@pytest.mark.parametrize(
    ("environment", "exempt"),
    [
        ({"HTTPS_PROXY": "http://a.test:1"}, "localhost,127.0.0.1,::1"),
        ({"ALL_PROXY": "a.test", "NO_PROXY": "x.test, 127.0.0.1"}, "x.test,127.0.0.1,localhost,::1"),
        ({"http_proxy": "a.test", "no_proxy": "x.test", "NO_PROXY": "y"}, "x.test,localhost,127.0.0.1,::1"),
        ({"http_proxy": "a.test", "NO_PROXY": "*"}, "*"),
        ({"NO_PROXY": "x.test"}, "x.test"),
        ({}, None),
    ],
)
def test_other_peoples_clients_learn_of_this_machine(environment: dict[str, str], exempt: str | None) -> None:
    exempt_this_machine(environment)
    assert environment.get("no_proxy", environment.get("NO_PROXY")) == exempt
