"""The proxies that stand between this machine and the models, as the environment names them.

Owns ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, and what it means when a proxy refuses; refuses to
know who asks and for what. Invariant: what is on this machine is never asked through a proxy, and neither a proxy's
name nor its password is in any text.

aiohttp's own ``trust_env`` is not used: it takes two threads a request, reads ``~/.netrc``, and sends what that has for
a host to the model along with our own key.
"""

from __future__ import annotations

import contextlib
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import aiohttp
from yarl import URL

from metaclaw.proxy_variables import exempt_hosts, proxy_variable

_SCHEMES = ("http", "https")
_MAX_ADDRESSES = 256  # whose way is remembered; the settings name a handful
_PROXY_PAGES = frozenset({403, 502, 503, 504})  # what a proxy says of a host, with a page for people
_NOWHERE = URL()


class ProxyFailedError(aiohttp.ClientConnectionError):
    """A proxy cannot be reached, or refuses. The text names it, never what was asked through it."""


class ProxySilentError(ProxyFailedError, aiohttp.ConnectionTimeoutError):
    """A proxy takes connections and says nothing on them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy, and the variable that names it. ``trouble`` says why it cannot be used."""

    variable: str
    url: URL = _NOWHERE  # without name and password
    login: str = field(default="", repr=False)  # a value of Proxy-Authorization
    trouble: str = ""

    def __str__(self) -> str:
        return f"the proxy {self.url} of {self.variable}" if self.url else f"the proxy of {self.variable}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """By the scheme of what is asked, and what is asked without any."""

    by_scheme: Mapping[str, Proxy]
    exempt: Exempt

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Proxies | None:
        """The proxies of an environment; ``None`` where it names none. What cannot be used is a ``Proxy`` as well."""
        found = {scheme: proxy for scheme in _SCHEMES if (proxy := _proxy_for(scheme, environment))}
        return cls(by_scheme=found, exempt=Exempt.read(exempt_hosts(environment))) if found else None

    def on_the_way_to(self, url: URL) -> Proxy | None:
        """The proxy that a request to ``url`` goes through."""
        host = (url.host or "").rstrip(".").lower()
        return None if self.exempt.has(host, url.port) else self.by_scheme.get(url.scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exempt:
    """What ``NO_PROXY`` says, as curl reads it; and this machine, whatever it says.

    An entry is a host, which stands for those below it too; an address; a network, as ``10.0.0.0/8``; or ``*`` for all.
    ``:PORT`` may follow a host or an address.
    """

    names: tuple[tuple[str, int | None], ...]
    networks: tuple[tuple[IPv4Network | IPv6Network, int | None], ...]

    @classmethod
    def read(cls, entries: Iterable[str]) -> Exempt:
        names: list[tuple[str, int | None]] = []
        networks: list[tuple[IPv4Network | IPv6Network, int | None]] = []
        for entry in entries:
            host, port = _host_and_port(entry.lower())
            try:
                networks.append((ip_network(host, strict=False), port))
            except ValueError:
                names.append((host if host == "*" else host.removeprefix("*").strip("."), port))
        return cls(names=tuple(names), networks=tuple(networks))

    def has(self, host: str, port: int | None) -> bool:
        address = _address(host)
        if host == "localhost" or host.endswith(".localhost") or (address is not None and _is_here(address)):
            return True
        if address is not None and any(address in network and at in (None, port) for network, at in self.networks):
            return True
        return any(
            at in (None, port) and (name == "*" or host == name or (name != "" and host.endswith(f".{name}")))
            for name, at in self.names
        )


def through(proxies: Proxies) -> aiohttp.ClientMiddlewareType:
    """A middleware of a client session that sends each request by the way that ``proxies`` says."""
    on_the_way_to = lru_cache(_MAX_ADDRESSES)(proxies.on_the_way_to)

    async def ask(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        proxy = on_the_way_to(request.url.origin())
        if proxy is None:
            return await handler(request)
        if proxy.trouble:
            raise ProxyFailedError(f"{proxy} {proxy.trouble}")
        _send_through(proxy, request)
        try:
            response = await handler(request)
        except aiohttp.ConnectionTimeoutError:
            raise ProxySilentError(f"{proxy} let nothing through") from None
        except aiohttp.ClientError as error:
            if (said := _what_failed(proxy, error)) is None:
                raise
            raise ProxyFailedError(said) from None  # aiohttp keeps the headers of the request in there
        if request.url.scheme == "http" and _is_the_proxys_own(response):
            response.close()
            raise ProxyFailedError(_refused(proxy, response.status, response.reason or ""))
        return response

    return ask


def _proxy_for(scheme: str, environment: Mapping[str, str]) -> Proxy | None:
    for name in (f"{scheme}_proxy", "all_proxy"):
        variable, value = proxy_variable(name, environment)
        if value:
            return _read(variable, value)
    return None


def _read(variable: str, value: str) -> Proxy:
    try:
        url = URL(value if "://" in value else f"http://{value}")
        login = _basic(url.user or "", url.password or "") if url.user or url.password else ""
        bare = url.origin()
    except ValueError:  # its text has the value, and that a password
        return Proxy(variable=variable, trouble="cannot be used: the value is no URL such as http://proxy.example:3128")
    if url.scheme not in _SCHEMES:
        return Proxy(variable=variable, url=bare, trouble="cannot be used: only http:// and https:// proxies can be")
    return Proxy(variable=variable, url=bare, login=login)


def _basic(name: str, password: str) -> str:
    return f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"


def _send_through(proxy: Proxy, request: aiohttp.ClientRequest) -> None:
    login = {"Proxy-Authorization": proxy.login} if proxy.login else {}
    if request.is_ssl():  # to the proxy a request of its own, CONNECT; what goes through the tunnel is not for it
        request.update_proxy(proxy.url, None, login or None)
    else:
        request.update_proxy(proxy.url, None, None)
        request.headers.update(login)


def _what_failed(proxy: Proxy, error: aiohttp.ClientError) -> str | None:
    """What to say of a request that came to nothing; ``None`` where it is the model's own doing."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return _refused(proxy, error.status, error.message)
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientConnectorDNSError():
            return f"{proxy} cannot be reached: {error.strerror or error.os_error}"
        case aiohttp.ClientConnectorCertificateError():
            return (
                f"a certificate that came through {proxy} is not trusted ({error.certificate_error}); "
                "a proxy that opens TLS signs by itself: name the file of its certificate in SSL_CERT_FILE"
            )
        case aiohttp.ClientResponseError():  # of the model's, where it came through a tunnel
            is_tunnel = error.request_info.url.scheme == "https" and error.request_info.method != "CONNECT"
            return None if is_tunnel else f"no HTTP that can be read came through {proxy}"
        case aiohttp.ClientConnectionError():
            return f"the connection through {proxy} failed ({error or type(error).__name__})"
        case _:
            return None


def _refused(proxy: Proxy, status: int, reason: str) -> str:
    if status == 407:
        return f"{proxy} wants another name and password (HTTP 407): they stand in its URL, http://NAME:PASSWORD@HOST"
    return f"{proxy} answered {status} {reason}".rstrip()


def _is_the_proxys_own(response: aiohttp.ClientResponse) -> bool:
    # Of an answer over plain HTTP nothing says whose it is. Models say in JSON what they have to say.
    return response.status == 407 or (response.status in _PROXY_PAGES and response.content_type == "text/html")


def _host_and_port(entry: str) -> tuple[str, int | None]:
    if entry.startswith("["):
        host, _, rest = entry[1:].partition("]")
        port = rest.removeprefix(":")
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
    else:
        host, port = entry, ""
    return host, int(port) if port.isdecimal() else None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    with contextlib.suppress(ValueError):
        return ip_address(host.partition("%")[0])
    return None


def _is_here(address: IPv4Address | IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any(one.is_loopback or one.is_unspecified for one in (address, mapped) if one is not None)
