"""Models by address: chat completions of any server that speaks OpenAI's form, asked politely and only once."""

from mstar.endpoint.access import AddressedModel
from mstar.endpoint.answer import Answer, Refusal, Usage
from mstar.endpoint.client import ChatClient
from mstar.endpoint.judged import Judged
from mstar.endpoint.messages import chat_messages
from mstar.endpoint.traffic import Traffic

__all__ = ["AddressedModel", "Answer", "ChatClient", "Judged", "Refusal", "Traffic", "Usage", "chat_messages"]
