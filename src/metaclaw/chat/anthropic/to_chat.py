"""A request of Anthropic's messages as a chat request.

Owns putting its parts together; refuses to know single parameters (``options``, ``tools``) and what chat models want
(``plain_messages``). Invariant: the messages are those of ``conversation``, in its order.
"""

from __future__ import annotations

from metaclaw.chat.anthropic.conversation import conversation
from metaclaw.chat.anthropic.options import options_to_chat
from metaclaw.chat.anthropic.sayable import require_sayable
from metaclaw.chat.anthropic.tools import tools_to_chat, with_short_names
from metaclaw.chat.messages import JsonObject
from metaclaw.chat.plain_messages import plain_messages


def request_to_chat(body: JsonObject) -> JsonObject:
    """Raises ``InvalidRequestError`` with the name of what chat cannot say."""
    require_sayable(body)
    messages = plain_messages(with_short_names(placed.message) for placed in conversation(body))
    return {**options_to_chat(body), **tools_to_chat(body), "messages": messages}
