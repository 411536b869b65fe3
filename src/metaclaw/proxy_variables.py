"""The variables that name proxies: ``HTTPS_PROXY`` and its kin.

Owns which there are, which of two spellings counts, and that this machine is exempt for every program that we start;
refuses to know URLs and requests. Invariant: what a user exempted stays exempt.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

EXEMPT = "no_proxy"
_OF_PROXIES = ("https_proxy", "http_proxy", "all_proxy")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")

# What a program with an environment of its own is given of ours.
PROXY_VARIABLES = tuple(spelt for name in (*_OF_PROXIES, EXEMPT) for spelt in (name, name.upper()))


def proxy_variable(name: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The spelling of ``name`` that counts, and its value: lower case goes before, empty as well, as in all SDKs."""
    spelt = name if name in environment else name.upper()
    return spelt, environment.get(spelt, "").strip()


def exempt_hosts(environment: Mapping[str, str]) -> list[str]:
    """The entries of ``NO_PROXY``."""
    return proxy_variable(EXEMPT, environment)[1].replace(",", " ").split()


def exempt_this_machine(environment: MutableMapping[str, str]) -> None:
    """Add this machine to ``NO_PROXY`` where there is a proxy, for SDKs and programs that would not know else.

    ``httpx`` for one sends what is for 127.0.0.1 to a proxy: the learner's requests to the training server.
    """
    entries = exempt_hosts(environment)
    if "*" in entries or not any(proxy_variable(name, environment)[1] for name in _OF_PROXIES):
        return
    value = ",".join([*entries, *(host for host in _THIS_MACHINE if host not in entries)])
    environment[EXEMPT] = environment[EXEMPT.upper()] = value
