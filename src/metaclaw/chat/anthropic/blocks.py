"""Content blocks of Anthropic's messages and the parts of OpenAI's, both ways.

Owns texts, images and documents; refuses to know messages and tools. Invariant: from a block to a part is lenient and
keeps what it does not know; from a part to a block raises ``InvalidRequestError`` for what Anthropic has no block for.

A marker for prompt caches moves from block to block between requests. It says nothing, so it is no part of a part.
"""

from __future__ import annotations

import re

from metaclaw.chat.anthropic.fields import listed, object_in, objects, text_in, unsaid
from metaclaw.chat.messages import JsonObject

TO = "Anthropic's messages"

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,")
_CACHE_MARKER = "cache_control"
_PDF = "application/pdf"


def text_block(text: str) -> JsonObject:
    return {"type": "text", "text": text}


def content_of(content: object) -> str | list[JsonObject]:
    """Content of a message in chat form: a string stays one, blocks become parts."""
    return content if isinstance(content, str) else [part for block in objects(content) for part in parts_of(block)]


def parts_of(block: JsonObject) -> list[JsonObject]:
    """``block`` as parts: what is said of a file stands before it."""
    part, context = part_of(block), text_in(block.get("context"))
    return [text_block(context), part] if context and part.get("type") == "file" else [part]


def part_of(block: JsonObject) -> JsonObject:
    """``block`` as a part. One that chat has no part for stays what it is, without its cache marker."""
    kind = block.get("type")
    if kind == "text":
        return text_block(text_in(block.get("text")))
    source = object_in(block.get("source"))
    if kind == "image" and (url := _url(source)):
        return {"type": "image_url", "image_url": {"url": url}}
    if kind == "document" and source.get("media_type") == _PDF and source.get("type") == "base64":
        file = {"filename": text_in(block.get("title")) or "document.pdf", "file_data": _url(source)}
        return {"type": "file", "file": file}
    if kind == "document" and source.get("type") == "text":
        says = (block.get("title"), block.get("context"), source.get("data"))
        return text_block("\n\n".join(text for text in map(text_in, says) if text))
    return {key: value for key, value in block.items() if key != _CACHE_MARKER}


def is_sayable(block: JsonObject) -> bool:
    """Whether chat has a part for ``block``."""
    return part_of(block).get("type") in ("text", "image_url", "file")


def blocks_of(content: object, param: str) -> list[JsonObject]:
    """Content of a chat message as blocks. Anthropic refuses texts of nothing but white space: those are left out."""
    parts = [content] if isinstance(content, str) else listed(content)
    blocks = [
        text_block(part) if isinstance(part, str) else _block(object_in(part), f"{param}[{index}]")
        for index, part in enumerate(parts)
    ]
    return [block for block in blocks if block.get("type") != "text" or block["text"].strip()]


def _url(source: JsonObject) -> str:
    if source.get("type") == "base64":
        return f"data:{text_in(source.get('media_type'))};base64,{text_in(source.get('data'))}"
    return text_in(source.get("url")) if source.get("type") == "url" else ""


def _block(part: JsonObject, param: str) -> JsonObject:
    match part.get("type"):
        case "text":
            return text_block(text_in(part.get("text")))
        case "refusal":
            return text_block(text_in(part.get("refusal")))
        case "image_url":
            image = part.get("image_url")
            url = image if isinstance(image, str) else text_in(object_in(image).get("url"))
            return {"type": "image", "source": _source(url, "image/", param)}
        case "file":
            file = object_in(part.get("file"))
            block = {"type": "document", "source": _source(text_in(file.get("file_data")), _PDF, param)}
            name = text_in(file.get("filename"))
            return {**block, "title": name} if name else block
        case kind:
            raise unsaid(param, f"a part of type {kind!r:.80}", TO)


def _source(url: str, media: str, param: str) -> JsonObject:
    if found := _DATA_URL.match(url):
        if not found[1].startswith(media):
            raise unsaid(param, f"data of type {found[1]!r:.80}", TO)
        return {"type": "base64", "media_type": found[1], "data": url[found.end() :]}
    if url.startswith(("http://", "https://")):
        return {"type": "url", "url": url}
    raise unsaid(param, "data that is neither a base64 data: URL nor an http(s) URL", TO)
