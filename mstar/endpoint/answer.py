"""What a server answers, and what that took."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from mstar.endpoint.traffic import Traffic

_FILTERED: Final = "content_filter"
# The second ones are Together's and Mistral's. Whatever else ended an answer, such as a server that was out of
# resources, broke it off.
_WHOLE: Final = ("stop", "eos")
_CUT_OFF: Final = ("length", "model_length")
_NO_ANSWER: Final = "an answer that is no chat completion"
NO_TEXT: Final = "an answer without a text"
# Gemini's, some of which its address for OpenAI's chat completions puts behind "content_filter: ".
_FILTERED_FOR: Final = ("SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII")
# What providers call a filter's refusal, and what those say of it whose code says nothing: DashScope, DeepSeek,
# Moonshot, OpenAI's models that reason, and OpenRouter.
_FILTERS: Final = (_FILTERED, "content_policy_violation", "ResponsibleAIPolicyViolation", "data_inspection_failed")
_FILTER_SAYS: Final = (
    "inappropriate content", "content exists risk", "considered high risk", "violating our usage policy",
    "requires moderation",
)  # fmt: skip
_TOO_LONG: Final = ("context_length_exceeded", "exceed_context_size_error")
# The last four are those of llama.cpp, Gemini, DashScope and Anthropic.
_TOO_LONG_SAYS: Final = (
    "context length", "context window", "max_model_len", "maximum model length", "context size", "input token count",
    "range of input length", "prompt is too long",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """One chat completion.

    Attributes:
        finished: False if the length limit cut it off.
        prompt_tokens: Tokens of the prompt; 0 if the server does not count them.
        num_tokens: Tokens of the answer; 0 if the server does not count them.
        logprob: Sum of its tokens' natural log-probabilities; None if the server gives none.
        hidden_tokens: Tokens of thoughts that are counted apart, and paid for, too.
    """

    text: str
    finished: bool
    prompt_tokens: int
    num_tokens: int
    logprob: float | None = None
    hidden_tokens: int = 0

    @classmethod
    def read(cls, body: Any) -> Answer | Refusal | str:
        """The answer in a server's response, or that it was filtered; in words what there is if it is neither."""
        try:
            [choice] = body["choices"]
            reason, usage = choice["finish_reason"], body.get("usage") or {}
            if _is_filter(reason):  # before the message, which need not be there
                return Refusal(200, _FILTERED, f"what the model wrote was filtered ({reason[:50]})")
            message = choice["message"]
            text, thoughts = message["content"], message.get("reasoning_content") or message.get("reasoning")
            counts = ("prompt_tokens", "completion_tokens", "total_tokens")
            read, written, total = (int(usage.get(name) or 0) for name in counts)
            hidden = max(total - read - written, 0) if read else 0
            if isinstance(text, list):  # parts, as Mistral's models that reason answer; their thoughts are no answer
                thoughts, text = text, "".join(part["text"] for part in text if part["type"] == "text")
        except (AttributeError, KeyError, TypeError, ValueError):
            return _NO_ANSWER
        if not isinstance(text, str | None) or not isinstance(reason, str):
            return _NO_ANSWER
        if reason not in (*_WHOLE, *_CUT_OFF):
            return f"an answer that was ended by '{reason[:50]}'"
        # An immediate end is a token, too; and what a server takes for thoughts may be the answer.
        if reason in _WHOLE and not text and (thoughts or usage.get("completion_tokens") == 0):
            return NO_TEXT
        # Half a surrogate pair, which JSON can hold, can be written nowhere.
        whole = (text or "").encode(errors="replace").decode()
        return cls(whole, reason in _WHOLE, read, written, _sum_logprobs(choice.get("logprobs")), hidden)

    def dump(self) -> str:
        """The answer as it is kept."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def load(cls, kept: str) -> Answer:
        """A kept answer."""
        return cls(**json.loads(kept))


def _is_filter(reason: Any) -> bool:
    """Whether a provider's filter ended an answer."""
    return isinstance(reason, str) and (reason.lower().startswith(_FILTERED) or reason.upper() in _FILTERED_FOR)


def _sum_logprobs(given: Any) -> float | None:
    """The sum over the tokens of a choice's ``logprobs``; None if they are not there, or in another form."""
    try:
        values = [float(token["logprob"]) for token in given["content"]]
    except (KeyError, TypeError, ValueError):
        return None
    return math.fsum(values) if values and all(map(math.isfinite, values)) else None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that the server will not answer, however often it is asked.

    Attributes:
        code: The server's name for the reason; empty if it has none.
    """

    status: int
    code: str
    message: str

    @classmethod
    def read(cls, status: int, body: Any, text: str) -> Refusal:
        """What a server says of a request that it refuses, as text and, if it is that, as JSON."""
        if isinstance(body, list) and len(body) == 1:  # as Gemini's server answers
            [body] = body
        error = body.get("error", body) if isinstance(body, Mapping) else {}
        said = error if isinstance(error, Mapping) else {"message": error}
        message = str(said.get("message") or said.get("detail") or text)
        # Some repeat the status as the code, and say as the type what it is.
        codes = (value for value in (said.get("code"), said.get("type")) if value and isinstance(value, str))
        return cls(status, next(codes, ""), " ".join(message.split())[:300])

    @property
    def is_too_long(self) -> bool:
        """Whether the prompt leaves no room for an answer in the model's context."""
        return self.code in _TOO_LONG or any(said in self.message.lower() for said in _TOO_LONG_SAYS)

    @property
    def is_filtered(self) -> bool:
        """Whether the provider's filter refuses what is asked."""
        return self.code in _FILTERS or any(said in self.message.lower() for said in _FILTER_SAYS)


@dataclass(slots=True)
class Usage:
    """What was asked and answered."""

    requests: int = 0
    known: int = 0
    prompt_tokens: int = 0
    num_tokens: int = 0

    def add(self, answer: Answer) -> None:
        """Takes in an answer of the server."""
        self.requests += 1
        self.prompt_tokens += answer.prompt_tokens
        self.num_tokens += answer.num_tokens + answer.hidden_tokens

    def cost(self, traffic: Traffic) -> float:
        """What the server charges for it; 0 if prices are not known."""
        return (self.prompt_tokens * traffic.input_price + self.num_tokens * traffic.output_price) / 1e6

    def describe(self, cost: float) -> str:
        """It in one clause, with what it cost unless that is 0."""
        said = (
            f"{self.requests:,} answers ({self.known:,} more were known already), {self.prompt_tokens:,} tokens in and "
            f"{self.num_tokens:,} out"
        )
        return f"{said}, which cost {cost:,.2f}" if cost else said
