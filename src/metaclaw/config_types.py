"""Kinds of values that settings have, and what a group of settings is.

Owns reading and checking single values; refuses to know any setting. Invariant: an error says what to write instead,
and never shows a secret.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr


def _http_url(value: str) -> str:
    if any(char.isspace() or _is_control(char) for char in value):  # urlsplit would drop some of them without a word
        raise ValueError(f"{value!r} is not a URL: it holds a blank or a control character")
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(
            f"{value!r} is not a URL; write it with a scheme, for example 'http://{value or '127.0.0.1:8000'}'"
        )
    if not parts.hostname:
        raise ValueError(f"{value!r} names no host; write one, for example '{parts.scheme}://127.0.0.1:8000'")
    try:
        _ = parts.port  # parsed only when it is asked for
    except ValueError:
        raise ValueError(f"{value!r} has a port that is not a number from 0 to 65535") from None
    return value.rstrip("/")


def _header_value(key: SecretStr) -> SecretStr:
    # A key travels in a header, where a line break ends the header; the text must not show any of it.
    if any(map(_is_control, key.get_secret_value())):
        raise ValueError("it holds a line break or a control character; copy the key again, alone")
    return key


def _secret_url(url: SecretStr) -> SecretStr:
    # `webcal` is what calendars call https; an address that grants access must not be in the text of an error.
    value = _header_value(url).get_secret_value()
    if not value:
        return url
    try:
        return SecretStr(_http_url(f"https{value[6:]}" if value.lower().startswith("webcal:") else value))
    except ValueError:
        raise ValueError("it is not a URL; write it with a scheme, like 'https://example.org/calendar.ics'") from None


def _is_control(char: str) -> bool:
    return unicodedata.category(char) == "Cc"


@lru_cache(maxsize=16)  # every request of a client asks it of the same few names
def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on ``host``."""
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def none_if_empty(value: object) -> object:
    return None if value == "" else value


def split(value: object) -> object:
    # In a variable or on the command line a list is one text; an older file may have one too.
    return [part.strip(" ") for part in value.split(",") if part.strip(" ")] if isinstance(value, str) else value


def _device_text(value: object) -> object:
    # In YAML, `0` is a number and `[0, 1]` a list.
    if isinstance(value, list):
        return ",".join(map(str, cast("list[object]", value)))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _devices(value: str) -> str:
    """``auto``, ``cpu``, or GPUs as ``cuda:0,cuda:1``; bare numbers and ``cuda`` alone are understood."""
    text = value.strip().lower()
    if text in ("auto", "cpu"):
        return text
    names = ["0" if name.strip() == "cuda" else name.strip().removeprefix("cuda:") for name in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,3}", name) for name in names):
        raise ValueError("write 'auto', 'cpu', or GPUs like 'cuda:0' or '0,1'")
    numbers = list(map(int, names))
    if len(set(numbers)) < len(numbers):
        raise ValueError("a GPU is named twice")
    return ",".join(f"cuda:{number}" for number in numbers)


HttpUrl = Annotated[str, AfterValidator(_http_url)]
ApiKey = Annotated[SecretStr, AfterValidator(_header_value)]
SecretUrl = Annotated[SecretStr, AfterValidator(_secret_url)]
Devices = Annotated[str, BeforeValidator(_device_text), AfterValidator(_devices)]
Timeout = Annotated[float, Field(gt=0, allow_inf_nan=False)]  # seconds; no clock rings at infinity
OptionalPath = Annotated[Path | None, BeforeValidator(none_if_empty)]


class Section(BaseModel):
    """A group of settings. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
