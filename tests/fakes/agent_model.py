"""A model for real agent programs: it reads a file when it is asked about it, and then says what the file says.

It speaks OpenAI's chat and responses and Anthropic's messages, streaming and not, keeps every request that it saw, and
can be told to fail the next ones.
"""

from __future__ import annotations

import itertools
import json
import shlex
import socket
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

Json = dict[str, Any]
Entry = tuple[str, str]  # who ("user", "result", "other"), and the text
Fault = int | Literal["break"]  # a status, or an answer that breaks off in the middle of its stream
MODEL = "stub-1"
MARK = "facts.txt"  # whoever writes this name wants the file to be read
_PATH_OF = {"read": ("path", "filePath"), "Read": ("file_path",), "read_file": ("path",)}  # by the tool's name
_COMMAND_OF = {"exec_command": "cmd"}  # for programs that read by a shell


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it came; ``headers`` has lower-case names."""

    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Json:
        return json.loads(self.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model says: a text, and perhaps a call."""

    text: str
    tool: str = ""
    arguments: str = ""
    number: int = field(default_factory=itertools.count(1).__next__)  # programs take equal ids for one message


@dataclass(slots=True)
class AgentModel:
    """The model; ``url`` is without ``/v1``."""

    facts: Path
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    faults: deque[Fault] = field(default_factory=deque)
    fails_when: str = ""  # asked for this: faults wait for such a request
    otherwise: str = "Nothing to read."  # what it says to who has no tool for it

    def next_fault(self, raw: bytes) -> Fault | None:
        """What happens to a request. Agents ask for titles and the like when it suits them, and then have no tools."""
        is_meant = b'"tools"' in raw and self.fails_when.encode() in raw
        return self.faults.popleft() if self.faults and is_meant else None

    def reply(self, path: str, body: Json) -> Reply:
        entries = _ENTRIES[path](body)
        asked = max((at for at, (who, text) in enumerate(entries) if who == "user" and MARK in text), default=None)
        results = [text for who, text in entries[asked:] if who == "result"] if asked is not None else []
        if asked is not None and not results:
            for tool in map(_definition, body.get("tools") or []):
                if names := _PATH_OF.get(tool.get("name", "")):
                    known = _properties(tool)
                    name = next(name for name in (*names, "") if name in known or not name)
                    assert name, f"{tool['name']} takes {sorted(known)}"
                    return Reply(text="I read it.", tool=tool["name"], arguments=json.dumps({name: str(self.facts)}))
                if name := _COMMAND_OF.get(tool.get("name", "")):
                    command = f"cat {shlex.quote(str(self.facts))}"
                    return Reply(text="I read it.", tool=tool["name"], arguments=json.dumps({name: command}))
        if results:
            return Reply(text=f"The file says: {'; '.join(_first_line(result) for result in results)}")
        return Reply(text=self.otherwise)


@contextmanager
def agent_model(facts: Path) -> Generator[AgentModel]:
    """A running model that reads ``facts``."""
    model = AgentModel(facts=facts)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(model))
    server.daemon_threads = True  # a client may keep its connection for ever
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    model.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(model: AgentModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            path = self.path.split("?")[0]
            headers = {name.lower(): value for name, value in self.headers.items()}
            model.seen.append(Seen(path=path, headers=headers, raw=raw))
            if path not in _ENTRIES:
                self._send(404, {"error": {"message": f"no {path} here"}})
                return
            fault = model.next_fault(raw)
            if isinstance(fault, int):
                self._send(fault, {"error": {"message": f"told to fail with {fault}", "type": "told"}})
                return
            body = json.loads(raw)
            reply = model.reply(path, body)
            if body.get("stream"):
                self._stream(_STREAMS[path](body, reply), is_broken=fault == "break")
            else:
                self._send(200, _ANSWERS[path](body, reply))

        def _send(self, status: int, body: Json) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(data)

        def _stream(self, events: list[str], *, is_broken: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with suppress(ConnectionError):
                for number, event in enumerate(events):
                    if is_broken and number == len(events) // 2:
                        self.close_connection = True
                        self.connection.shutdown(socket.SHUT_RDWR)
                        return
                    data = event.encode()
                    self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler


def _definition(tool: Json) -> Json:
    return tool.get("function") or tool


def _properties(tool: Json) -> Json:
    schema = tool.get("parameters") or tool.get("input_schema") or {}
    return schema.get("properties") or {}


def _first_line(text: str) -> str:
    # Programs number the lines, wrap the file in tags, and add remarks.
    return next((line for line in text.splitlines() if "fact" in line and "<" not in line), text[:200]).strip()


def _texts(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _entries_of_chat(body: Json) -> list[Entry]:
    who = {"user": "user", "tool": "result"}
    return [(who.get(message["role"], "other"), _texts(message.get("content"))) for message in body["messages"]]


def _entries_of_messages(body: Json) -> list[Entry]:
    entries: list[Entry] = []
    for message in body["messages"]:
        content = message["content"]
        for block in content if isinstance(content, list) else [{"type": "text", "text": content}]:
            if block["type"] == "tool_result":
                entries.append(("result", _texts(block.get("content"))))
            else:
                entries.append(("user" if message["role"] == "user" else "other", str(block.get("text") or "")))
    return entries


def _entries_of_responses(body: Json) -> list[Entry]:
    given = body["input"]
    entries: list[Entry] = []
    for item in given if isinstance(given, list) else [{"role": "user", "content": given}]:
        if item.get("type") == "function_call_output":
            entries.append(("result", _texts(item["output"])))
        else:
            entries.append(("user" if item.get("role") == "user" else "other", _texts(item.get("content"))))
    return entries


def _chat_answer(body: Json, reply: Reply) -> Json:
    message: Json = {"role": "assistant", "content": reply.text}
    if reply.tool:
        function = {"name": reply.tool, "arguments": reply.arguments}
        message["tool_calls"] = [{"id": f"call_{reply.number}", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if reply.tool else "stop"}
    return {
        "id": f"chatcmpl-{reply.number}", "object": "chat.completion", "created": 1, "model": body["model"],
        "choices": [choice], "usage": {"prompt_tokens": 70, "completion_tokens": 9, "total_tokens": 79},
    }  # fmt: skip


def _chat_stream(body: Json, reply: Reply) -> list[str]:
    def chunk(delta: Json, finish_reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return {
            "id": f"chatcmpl-{reply.number}", "object": "chat.completion.chunk", "created": 1, "model": body["model"],
            "choices": [choice],
        }  # fmt: skip

    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"content": piece}) for piece in _pieces(reply.text)]
    if reply.tool:
        first = {
            "index": 0,
            "id": f"call_{reply.number}",
            "type": "function",
            "function": {"name": reply.tool, "arguments": ""},
        }
        chunks.append(chunk({"tool_calls": [first]}))
        chunks += [
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
            for piece in _pieces(reply.arguments)
        ]
    chunks.append(chunk({}, "tool_calls" if reply.tool else "stop"))
    if (body.get("stream_options") or {}).get("include_usage"):
        usage = {"prompt_tokens": 70, "completion_tokens": 9, "total_tokens": 79}
        chunks.append({**chunk({}), "choices": [], "usage": usage})
    return [f"data: {json.dumps(each)}\n\n" for each in chunks] + ["data: [DONE]\n\n"]


def _messages_answer(body: Json, reply: Reply) -> Json:
    blocks: list[Json] = [{"type": "text", "text": reply.text}]
    if reply.tool:
        call = {
            "type": "tool_use",
            "id": f"toolu_{reply.number}",
            "name": reply.tool,
            "input": json.loads(reply.arguments),
        }
        blocks.append(call)
    return {
        "id": f"msg_{reply.number}", "type": "message", "role": "assistant", "model": body["model"], "content": blocks,
        "stop_reason": "tool_use" if reply.tool else "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 70, "output_tokens": 9},
    }  # fmt: skip


def _messages_stream(body: Json, reply: Reply) -> list[str]:
    whole = _messages_answer(body, reply)
    events: list[Json] = [{"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}}]
    for index, block in enumerate(whole["content"]):
        is_text = block["type"] == "text"
        start = {**block, "text": ""} if is_text else {**block, "input": {}}
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        for piece in _pieces(block["text"] if is_text else reply.arguments):
            delta = (
                {"type": "text_delta", "text": piece}
                if is_text
                else {"type": "input_json_delta", "partial_json": piece}
            )
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
        events.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events += [{"type": "message_delta", "delta": ending, "usage": {"output_tokens": 9}}, {"type": "message_stop"}]
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]


def _responses_answer(body: Json, reply: Reply) -> Json:
    text = {"type": "output_text", "text": reply.text, "annotations": []}
    output: list[Json] = [
        {"type": "message", "id": f"msg_{reply.number}", "role": "assistant", "status": "completed", "content": [text]}
    ]
    if reply.tool:
        call = {
            "type": "function_call",
            "id": f"fc_{reply.number}",
            "call_id": f"call_{reply.number}",
            "name": reply.tool,
        }
        output.append({**call, "arguments": reply.arguments, "status": "completed"})
    usage = {
        "input_tokens": 70, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 79,
    }  # fmt: skip
    return {
        "id": f"resp_{reply.number}", "object": "response", "created_at": 1, "status": "completed", "error": None,
        "incomplete_details": None, "instructions": None, "model": body["model"], "output": output,
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}, "usage": usage,
    }  # fmt: skip


def _responses_stream(body: Json, reply: Reply) -> list[str]:
    whole = _responses_answer(body, reply)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for index, item in enumerate(whole["output"]):
        place = {"item_id": item["id"], "output_index": index}
        if item["type"] == "message":
            (part,) = item["content"]
            events += [
                _added(index, {**item, "content": [], "status": "in_progress"}),
                {"type": "response.content_part.added", **place, "content_index": 0, "part": {**part, "text": ""}},
                *(
                    {"type": "response.output_text.delta", **place, "content_index": 0, "delta": piece, "logprobs": []}
                    for piece in _pieces(part["text"])
                ),
                {"type": "response.output_text.done", **place, "content_index": 0, "text": part["text"]},
                {"type": "response.content_part.done", **place, "content_index": 0, "part": part},
            ]
        else:
            events += [
                _added(index, {**item, "arguments": "", "status": "in_progress"}),
                *(
                    {"type": "response.function_call_arguments.delta", **place, "delta": piece}
                    for piece in _pieces(item["arguments"])
                ),
                {"type": "response.function_call_arguments.done", **place, "arguments": item["arguments"]},
            ]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return [
        f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n"
        for number, event in enumerate(events)
    ]


def _added(index: int, item: Json) -> Json:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def _pieces(text: str) -> list[str]:
    return [text[start : start + 7] for start in range(0, len(text), 7)]


_CHAT, _MESSAGES, _RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
_ENTRIES: dict[str, Callable[[Json], list[Entry]]] = {
    _CHAT: _entries_of_chat,
    _MESSAGES: _entries_of_messages,
    _RESPONSES: _entries_of_responses,
}
_ANSWERS: dict[str, Callable[[Json, Reply], Json]] = {
    _CHAT: _chat_answer,
    _MESSAGES: _messages_answer,
    _RESPONSES: _responses_answer,
}
_STREAMS: dict[str, Callable[[Json, Reply], list[str]]] = {
    _CHAT: _chat_stream,
    _MESSAGES: _messages_stream,
    _RESPONSES: _responses_stream,
}
