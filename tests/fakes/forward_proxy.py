"""A company's proxy on a real socket: tunnels (``CONNECT``) and plain requests, for whoever has its password."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PAGE = b"<html><body>Blocked by your company.</body></html>"


@dataclass(slots=True, kw_only=True)
class ForwardProxy:
    """``hosts`` says where the names that only the proxy knows are: a port of this machine. ``lines`` is what came."""

    hosts: Mapping[str, int]
    login: str = ""  # NAME:PASSWORD; anybody may when it is empty
    refuses_with: int = 0
    is_silent: bool = False
    port: int = 0
    lines: list[str] = field(default_factory=list)
    headers: list[bytes] = field(default_factory=list)
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            writer.close()
            self.serving.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, _, rest = head.partition(b"\r\n")
        method, target, _ = first.decode().split(" ")
        self.lines.append(f"{method} {target}")
        self.headers.append(rest)
        if self.is_silent:
            await reader.read()  # until whoever asks has given up
        elif self.login and b"Basic " + base64.b64encode(self.login.encode()) not in rest:
            await _refuse(writer, 407)
        elif self.refuses_with:
            await _refuse(writer, self.refuses_with)
        elif method == "CONNECT":
            await self._join(reader, writer, target.rpartition(":")[0])
        else:
            url = urlsplit(target)
            path = f"{url.path}?{url.query}" if url.query else url.path
            kept = [line for line in rest.split(b"\r\n") if not line.lower().startswith((b"proxy-", b"connection"))]
            again = b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), b"Connection: close", *kept])
            await self._join(reader, writer, url.hostname or "", again)

    async def _join(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, said: bytes | None = None
    ) -> None:
        if host not in self.hosts:
            await _refuse(writer, 503)
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.hosts[host])
        if said is None:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            back.write(said)
        both = [asyncio.create_task(_pour(reader, back)), asyncio.create_task(_pour(there, writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pouring in both:
                pouring.cancel()
            back.close()


@asynccontextmanager
async def forward_proxy(
    hosts: Mapping[str, int] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    login: str = "",
    refuses_with: int = 0,
    is_silent: bool = False,
) -> AsyncGenerator[ForwardProxy]:
    """A running proxy; with ``tls`` one that is asked over TLS."""
    proxy = ForwardProxy(hosts=hosts or {}, login=login, refuses_with=refuses_with, is_silent=is_silent)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            for task in proxy.serving:
                task.cancel()
            await asyncio.gather(*proxy.serving)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate that nobody knows: a file to trust it by, and what a server needs that has it."""

    file: Path
    server: ssl.SSLContext

    @classmethod
    def of(cls, name: str, folder: Path) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.UTC)
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        signed = (
            x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        file, both = folder / f"{name}.pem", folder / f"{name}-key.pem"
        public = signed.public_bytes(serialization.Encoding.PEM)
        file.write_bytes(public)
        plain = serialization.NoEncryption()
        both.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain) + public
        )
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(both)
        return cls(file=file, server=server)


async def _refuse(writer: asyncio.StreamWriter, status: int) -> None:
    asked = b"Proxy-Authenticate: Basic\r\n" if status == 407 else b""
    writer.write(
        b"HTTP/1.1 %d Refused\r\nContent-Type: text/html\r\n%sContent-Length: %d\r\n\r\n" % (status, asked, len(_PAGE))
        + _PAGE
    )
    await writer.drain()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
