"""Responses of a model by address: any server with OpenAI's chat completions, such as vLLM's or a hosted model's."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from mstar.endpoint import AddressedModel, Answer, ChatClient, Refusal, Traffic, chat_messages
from mstar.errors import ConfigError, DataError, require_least
from mstar.generation.base import Engine, Request, Sample
from mstar.thoughts import is_in_thought, unopened_thought
from mstar.types import Prompt, Response

if TYPE_CHECKING:
    from torch import nn

    from mstar.rendering import Renderer

_log: Final = logging.getLogger(__name__)
_SEEDS: Final = 2**31


class OpenAIEngine(AddressedModel, Engine):
    """A model by address, by OpenAI's chat completions: vLLM, SGLang, LMDeploy, or a hosted model.

    It has weights of its own, and nobody's are handed to it: it is for ``annotate``, ``validate``, ``test`` and
    ``predict``, which then load no policy, and as the teacher of an answer-conditioned warm-up. A sample is one request
    with its own seed. What was answered is kept on disk by what was asked, and not asked again. A server that does not
    answer is asked again and again, and then stops the run: no response, label or verdict is made of that.

    Args:
        address: The server's, e.g. ``http://localhost:8000`` or ``https://api.openai.com/v1``.
        model: The model's name there. It stands for the weights, in the folders' provenance and for the kept answers:
            serve other weights under another name.
        max_new_tokens: Longest response, in tokens.
        key_variable: Name of the environment variable with the key; none sends no key.
        cache: Folder of the kept answers, which several runs can share; none is that of the run or annotation itself.
        continuing: How the server is asked to continue a response that was begun, which ``annotate`` needs.
            ``continue_final_message``: vLLM and SGLang. ``prefix``: a last turn of the assistant that is marked so
            (DeepSeek, Mistral). ``last_turn``: such a turn without a mark. ``none``: it cannot.
        length_field: How the server calls the longest response; OpenAI's reasoning models want the second.
        omit: Fields that the server does not take.
        logprobs: Ask for every token's log-probability too, which likelihoods are made of; not every server gives any.
            They must be those at temperature 1, as vLLM gives them (``--logprobs-mode raw_logprobs``, its default);
            SGLang does with ``SGLANG_RETURN_ORIGINAL_LOGPROB=1``.
        traffic: How fast it is asked, how long it is waited for, and what it charges.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: a setting cannot work.
    """

    def __init__(
        self,
        address: str,
        model: str,
        max_new_tokens: int = 1024,
        key_variable: str | None = None,
        cache: str | None = None,
        continuing: Literal["continue_final_message", "prefix", "last_turn", "none"] = "continue_final_message",
        length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        omit: list[Literal["seed", "temperature"]] | None = None,
        logprobs: bool = False,
        traffic: Traffic = Traffic(),  # noqa: B008 - frozen, so sharing it is safe
        progress: bool = True,
    ) -> None:
        require_least("engine.", max_new_tokens=max_new_tokens)
        super().__init__(address, model, key_variable, omit, traffic)
        self.own_model = model
        self.max_new_tokens = max_new_tokens
        self.cache = cache
        self.continuing = continuing
        self.length_field = length_field
        self.logprobs = logprobs
        self.progress = progress
        self._begins_in_thought = self._told_of_thoughts = False
        self._folder: Path | None = None
        self._client: ChatClient | None = None

    def expect(self, model_type: str, longest_prompt: int | None = None) -> None:
        """Finds out whether the address can be one and the key is there; it runs any model."""
        self._connect().close()
        self._client = None

    def work_in(self, folder: Path) -> None:
        """Keeps its answers in this folder, unless ``cache`` names another."""
        if folder != self._folder:
            self.close()
            self._folder = folder

    def start(self, policy: nn.Module, renderer: Renderer) -> None:
        """Refuses: it draws from no policy."""
        raise ConfigError(
            f"the engine OpenAIEngine draws from '{self.model}' at its address, and cannot draw from the policy: "
            "choose TransformersEngine or VllmEngine."
        )

    def update_weights(self, policy: nn.Module) -> None:
        """Refuses, as ``start``."""
        raise ConfigError(f"no weights can be handed to '{self.model}' at its address: choose another engine.")

    def generate(self, requests: Sequence[Request]) -> list[list[Response]]:
        """Asks for every sample of every request; see the interface.

        Raises:
            EndpointError: the server does not answer; what it did answer is kept.
            ConfigError: it refuses the key, the model's name or a field; or a thought is to be continued.
            DataError: it refuses a prompt.
        """
        if continued := [request.prefix for request in requests if request.prefix]:
            self._check_continuing(continued)
        asked = [(request, sample) for request in requests for sample in request.samples]
        with self.counting(len(asked)) as bar:
            answers = self._connect().ask_all(
                self._bodies(requests),
                lambda answer: bar.look([answer.num_tokens if isinstance(answer, Answer) else 0], ()),
            )
        drawn = [self._response(*pair, answer) for pair, answer in zip(asked, answers, strict=True)]
        begun = [
            bool(unopened_thought(response.text))
            for (request, _), response in zip(asked, drawn, strict=True)
            if response.finished and not request.prefix
        ]
        if begun:
            self._begins_in_thought = sum(begun) > len(begun) / 2
        responses = iter(drawn)
        return [[next(responses) for _ in request.samples] for request in requests]

    def close(self) -> None:
        """Says what was asked and what it cost, and closes the connections."""
        if self._client is not None:
            usage = self._client.usage
            self._client.close()
            self._client = None
            if usage.requests or usage.known:
                _log.info("%s: %s", self.model, usage.describe(usage.cost(self.traffic)))

    def _check_continuing(self, prefixes: Sequence[str]) -> None:
        if self.continuing == "none":
            raise ConfigError(
                "a response is to be continued, but engine.continuing is none: choose how the server does that, or "
                "label steps by a judge alone."
            )
        if self._begins_in_thought:
            # Sent back, what was thought stands behind an empty thought, as the beginning of the answer.
            raise ConfigError(
                f"the chat template of '{self.model}' opens a thought, which its server cannot be asked to continue: "
                "serve it with a template that opens none, load the model here, or label steps by a judge alone."
            )
        if not self._told_of_thoughts and any(map(is_in_thought, prefixes)):
            self._told_of_thoughts = True
            _log.warning(
                "responses are continued within their thoughts: a server whose chat template puts an empty thought "
                "before an answer that is sent back (GLM-4.5V's, Qwen3's) continues something else; look at its "
                "template, serve the model without thoughts, or load it here."
            )

    def _connect(self) -> ChatClient:
        if self._client is None:
            self._client = ChatClient(self, self._folder if self.cache is None else Path(self.cache))
        return self._client

    def _bodies(self, requests: Sequence[Request]) -> Iterator[dict[str, Any]]:
        last: tuple[Prompt, bool] | None = None
        messages: list[dict[str, Any]] = []
        for request in requests:
            # The prefixes of a prompt follow each other, and its pictures are encoded once.
            if last != (request.prompt, request.show_answer):
                last = (request.prompt, request.show_answer)
                messages = chat_messages(request.prompt, show_answer=request.show_answer)
            for sample in request.samples:
                yield {"messages": messages} | self._begun(messages, request.prefix) | {
                    "temperature": sample.temperature,
                    "seed": sample.seed % _SEEDS,
                    self.length_field: self.max_new_tokens,
                } | ({"logprobs": True} if self.logprobs else {})  # fmt: skip

    def _begun(self, messages: list[dict[str, Any]], prefix: str) -> dict[str, Any]:
        """The fields that ask to continue a response."""
        if not prefix:
            return {}
        turn: dict[str, Any] = {"role": "assistant", "content": prefix}
        if self.continuing == "prefix":
            turn["prefix"] = True
        fields: dict[str, Any] = {"messages": [*messages, turn]}
        if self.continuing == "continue_final_message":
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        return fields

    def _response(self, request: Request, sample: Sample, answer: Answer | Refusal) -> Response:
        if isinstance(answer, Refusal):
            return self._unwritten(request, sample, answer)
        if self.logprobs and answer.logprob is None and answer.num_tokens > 0:
            raise ConfigError(
                f"the server of '{self.model}' gives no log-probabilities (the first response without any is to "
                f"'{request.prompt.id}'): leave out engine.logprobs, and what reads likelihoods."
            )
        return Response(
            prompt_id=request.prompt.id,
            sample_index=sample.index,
            # Some servers give the whole turn back.
            text=request.prefix + answer.text.removeprefix(request.prefix),
            num_tokens=answer.num_tokens,
            finished=answer.finished,
            temperature=sample.temperature,
            logprob=math.nan if answer.logprob is None else answer.logprob,
        )

    def _unwritten(self, request: Request, sample: Sample, refusal: Refusal) -> Response:
        """What stands for a response to a prompt that this model cannot read.

        Raises:
            ConfigError: it is the server that cannot do what it is asked.
            DataError: the prompt was refused, for which nothing can stand.
        """
        prompt_id, said = request.prompt.id, f"HTTP {refusal.status}: {refusal.message}"
        if refusal.is_too_long or (refusal.is_filtered and not request.prefix):
            _log.warning("%s does not answer the prompt '%s' (%s); its response is empty.", self.model, prompt_id, said)
            return Response(prompt_id, sample.index, request.prefix, 0, False, sample.temperature, math.nan)
        if request.prefix and not refusal.is_filtered:
            raise ConfigError(
                f"{self.model} does not continue a response that was begun ({said}): set engine.continuing to how its "
                "server does that (vLLM and SGLang: continue_final_message), or label steps by a judge alone."
            )
        raise DataError(
            f"{self.model} refuses the prompt '{prompt_id}' ({said}): leave the prompt out, or mend what the server "
            "does not take (engine.omit, engine.length_field, engine.logprobs)."
        )
