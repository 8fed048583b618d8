"""Prompts and responses <-> token ids: the only caller of chat templates, and the home of the label mask.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from jinja2 import TemplateError
from torch import Tensor

from mstar.chat_template import (
    check_template,
    find_answer_turn,
    keeps_places,
    pictures_first,
    plain_system,
    prompt_messages,
    takes_system_parts,
    tokenizer_of,
)
from mstar.errors import ConfigError, DataError
from mstar.steps import split_steps
from mstar.types import Prompt

if TYPE_CHECKING:
    from transformers import ProcessorMixin

IGNORE_INDEX: Final = -100


@dataclass
class ModelInputs:
    """Inputs of a vision-language model's forward pass.

    Not frozen, because Lightning moves a batch to a device by setting its fields.

    Attributes:
        ids_BT: Token ids.
        mask_BT: 1 for real tokens, 0 for padding.
        extras: What else the processor made (``pixel_values`` and the like), by the name of the model's argument.
    """

    ids_BT: Tensor
    mask_BT: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> ModelInputs:
        """The same inputs on another device."""
        extras = {name: value.to(device) for name, value in self.extras.items()}
        return ModelInputs(self.ids_BT.to(device), self.mask_BT.to(device), extras)


@dataclass
class ResponseInputs:
    """Prompts with responses, ready for a loss on the responses.

    Attributes:
        inputs: Right-padded prompt + response + end-of-turn token.
        labels_BT: The response's tokens and the end-of-turn token at their own positions; ``IGNORE_INDEX`` elsewhere.
        step_ends: For every row, the position in T of the last token of each step.
    """

    inputs: ModelInputs
    labels_BT: Tensor
    step_ends: list[list[int]]


class Renderer:
    """Turns prompts and responses into model inputs with a Hugging Face processor.

    Args:
        processor: The model's processor; it must have a chat template and a fast tokenizer.
        end_ids: Token ids that end a response (the model's ``generation_config.eos_token_id``).
        positions: How many tokens the model can read and write in all; None if that is not known.

    Raises:
        ConfigError: the processor has no chat template, or one that cannot render a prompt with pictures; or no end
            token follows a response in it.
    """

    def __init__(self, processor: ProcessorMixin, end_ids: Sequence[int] = (), positions: int | None = None) -> None:
        self.processor: Any = processor
        self.positions = positions
        self.tokenizer: Any = tokenizer_of(processor)
        if not (getattr(processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)):
            raise ConfigError(
                f"{type(processor).__name__} has no chat template, so prompts cannot be rendered: use an "
                "instruction-tuned model, or add a chat_template to its folder."
            )
        # As Transformers' processors; a tokenizer alone leaves its first token to the template.
        self._begins = processor is not self.tokenizer and self.tokenizer("")["input_ids"] == [
            self.tokenizer.bos_token_id
        ]
        check_template(processor, self._apply_template)
        self.end_id, self.gap, self.thought = find_answer_turn(processor, self._apply_template)
        if self.tokenizer.pad_token_id is None:
            # Padding is masked, so that any token serves; this one is known to be there.
            self.tokenizer.pad_token = self.tokenizer.convert_ids_to_tokens(self.end_id)
        eos = self.tokenizer.eos_token_id
        ends = [*end_ids, *([] if eos is None else [eos]), self.end_id]
        end = str(self.tokenizer.convert_ids_to_tokens(self.end_id))
        # A tokenizer alone is that of a model of text.
        self._keeps_places = processor is self.tokenizer or keeps_places(self._apply_template, end)
        self._takes_system_parts = takes_system_parts(self._apply_template)
        self.end_ids: tuple[int, ...] = tuple(dict.fromkeys(ends))
        # What they look like where they were written down as text.
        self.end_texts: tuple[str, ...] = tuple(map(str, self.tokenizer.convert_ids_to_tokens(list(self.end_ids))))
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        text_tokens = {i for i, token in self.tokenizer.added_tokens_decoder.items() if not token.special}
        self.placeholders = self._find_placeholders()
        # Some tokenizers do not mark their image token as special.
        vocabulary = self.tokenizer.get_vocab()
        media = {vocabulary[place] for place in self.placeholders if place in vocabulary}
        # A sampled image token would break the re-encoding of the response, so no special token but the end is drawn.
        self.banned_ids: tuple[int, ...] = tuple(sorted(((special - text_tokens) | media) - set(self.end_ids)))
        self._picture_tokens: dict[tuple[tuple[int, int], ...], int] = {}  # by the pictures' heights and widths
        # Models may have more rows in their embedding than the tokenizer has tokens; those are no text either.
        self.vocabulary_size = len(self.tokenizer)

    def render_prompt(self, prompt: Prompt, *, show_answer: bool = False) -> str:
        """The prompt's text with chat template and image placeholders, up to where the response begins.

        Raises:
            DataError: ``show_answer`` is set and the prompt has no answer; its text has an image placeholder that
                stands for none of its pictures; or the chat template refuses its turns.
        """
        messages = prompt_messages(prompt, show_answer=show_answer)
        for part in (part for message in messages for part in message["content"] if part["type"] == "text"):
            for placeholder in self.placeholders:
                if placeholder in part["text"]:
                    raise DataError(
                        f"the text of prompt '{prompt.id}' contains '{placeholder}', which stands for a picture: "
                        "remove it, or give the prompt that picture."
                    )
        shown = messages if self._keeps_places else pictures_first(messages)
        shown = shown if self._takes_system_parts else plain_system(shown)
        try:
            return self._apply_template(shown, open_turn=True)
        except TemplateError as error:
            # Many templates refuse a system turn, or two turns of one speaker.
            raise DataError(f"the chat template refuses the turns of prompt '{prompt.id}': {error}") from error

    def check_thoughts(self) -> None:
        """Makes sure that the policy may draw the thoughts that it is asked for.

        Raises:
            ConfigError: what opens one is a special token, which is never drawn (Gemma 4, Magistral).
        """
        asked, vocabulary = self.render_prompt(Prompt("", "question")), self.tokenizer.get_vocab()
        for request, opening in (("<|think|>", "<|channel>"), ("[THINK]", "[THINK]")):
            if request in asked and vocabulary.get(opening) in self.banned_ids:
                raise ConfigError(
                    f"the chat template asks for thoughts ('{request}'), and '{opening}', which opens one, is a "
                    "special token, which no response may have: take that out of the template (enable_thinking, or the "
                    "system prompt that it has of its own)."
                )

    def adds_beginning(self, text: str) -> bool:
        """Whether the tokenizer puts its first token (BOS) before a prompt's text; not where the template wrote it."""
        return self._begins and not text.startswith(self.tokenizer.bos_token)

    def prompt_inputs(
        self, prompts: Sequence[Prompt], *, prefixes: Sequence[str] | None = None, show_answer: Sequence[bool] = ()
    ) -> ModelInputs:
        """Left-padded inputs for generation.

        Args:
            prefixes: For every row, the beginning of the response (it is encoded as a response is).
            show_answer: For every row, whether the gold answer is shown; empty means no row.
        """
        shown = list(show_answer) or [False] * len(prompts)
        ids, extras = self._encode([self.render_prompt(p, show_answer=s) for p, s in zip(prompts, shown, strict=True)],
                                   prompts)  # fmt: skip
        tails: list[list[int]] = [[] for _ in prompts]
        if prefixes is not None:
            # split_special_tokens: the text "<image>" in a response is text, not an image token.
            encoded = self.tokenizer(
                [self._set_off(p) for p in prefixes], add_special_tokens=False, split_special_tokens=True
            )
            tails = encoded["input_ids"]
        return self._pad([a + b for a, b in zip(ids, tails, strict=True)], [len(t) for t in tails], extras, left=True)

    def text_inputs(self, texts: Sequence[str], prompts: Sequence[Prompt]) -> ModelInputs:
        """Left-padded inputs of texts that do not come from the chat template."""
        ids, extras = self._encode(list(texts), prompts)
        return self._pad(ids, [0] * len(ids), extras, left=True)

    def response_inputs(
        self, prompts: Sequence[Prompt], responses: Sequence[str], tokens: Sequence[Sequence[int]] = ()
    ) -> ResponseInputs:
        """Right-padded prompt + response + end token, with labels on the response and the end token alone.

        Args:
            responses: For every row, the response's text.
            tokens: For every row, the tokens that the response was sampled as, its end token included; where they are
                empty, its text is encoded. Where they are not, its steps are not looked for.
        """
        ids, extras = self._encode([self.render_prompt(prompt) for prompt in prompts], prompts)
        tails, ends = self.encode_responses(responses)
        for row, sampled in enumerate(tokens):
            if sampled:
                tails[row], ends[row] = list(sampled), []
        inputs = self._pad(
            [a + b for a, b in zip(ids, tails, strict=True)], [len(t) for t in tails], extras, left=False
        )
        labels_BT = torch.full_like(inputs.ids_BT, IGNORE_INDEX)
        for row, (prompt_ids, tail) in enumerate(zip(ids, tails, strict=True)):
            labels_BT[row, len(prompt_ids) : len(prompt_ids) + len(tail)] = torch.tensor(tail)
        step_ends = [[len(p) + end for end in row] for p, row in zip(ids, ends, strict=True)]
        return ResponseInputs(inputs, labels_BT, step_ends)

    def count_tokens(self, prompt: Prompt) -> int:
        """Tokens of a prompt, those of its pictures included."""
        [ids], _ = self._encode([self.render_prompt(prompt)], [prompt])
        return len(ids)

    def bound_tokens(self, prompt: Prompt) -> int | None:
        """At least as many tokens as a prompt has, without preparing its pictures; None where that cannot be known."""
        text = self.render_prompt(prompt)
        # A token of text stands for a byte or more.
        bound = len(text.encode()) + self.adds_beginning(text)
        if not prompt.images:
            return bound
        count = getattr(self.processor, "_get_num_multimodal_tokens", None)
        if count is None:
            # Processors that come as code with the weights.
            return None
        sizes = tuple((picture.height, picture.width) for picture in (image.load() for image in prompt.images))
        if sizes not in self._picture_tokens:
            # Some processors call their tokenizer for it.
            self._picture_tokens[sizes] = int(sum(count(image_sizes=sizes)["num_image_tokens"]))
        return bound + self._picture_tokens[sizes]

    def count_response_tokens(self, response: str) -> int:
        """Tokens of a response, its end token included."""
        return len(self.encode_responses([response])[0][0])

    def encode_responses(self, responses: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of responses, closed by the end token, and the index in them of each step's last token.

        The last step ends with the end token itself: what stands there has seen the whole response.
        """
        written = [self._set_off(response) for response in responses]
        encoded = self.tokenizer(
            written, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True
        )
        tokens = [[*row, self.end_id] for row in encoded["input_ids"]]
        ends = []
        for response, text, offsets in zip(responses, written, encoded["offset_mapping"], strict=True):
            # The steps are those of the response, in which a thought may be opened that the turn opens already.
            row, position = [], len(text) - len(response)
            token_ends = sorted(end for _, end in offsets)
            for step in split_steps(response)[:-1]:
                position += len(step)
                # Whole tokens only: one that reaches into the next step (an indented word) has seen that step.
                row.append(max(bisect_right(token_ends, position) - 1, 0))
            ends.append([*row, len(offsets)] if response.strip() else [])
        return tokens, ends

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated tokens, without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _set_off(self, response: str) -> str:
        """A response as it stands behind an open turn.

        Some templates have a space before an answer (SmolVLM, LLaVA). What the model writes itself brings it along; a
        rationale that was written elsewhere gets it here, so that both are the same tokens. And a thought that the turn
        has opened (Qwen3.5) is not opened again.
        """
        response = response.removeprefix(self.thought).removeprefix(self.thought.rstrip())
        return response if not response or response.startswith(self.gap) else self.gap + response

    def _find_placeholders(self) -> tuple[str, ...]:
        """Texts that stand for a picture, so that a question must not contain them."""
        places = [str(getattr(self.processor, name, None) or "") for name in ("image_token", "video_token")]
        return tuple(place for place in places if place)

    def _apply_template(self, messages: list[dict[str, Any]], *, open_turn: bool) -> str:
        """The text of a chat, with the beginning of the answer's turn if it is to be written next."""
        arguments: dict[str, Any] = {"add_generation_prompt": open_turn, "tokenize": False}
        if self.processor is not self.tokenizer:
            # Nothing is tokenized; without any, SmolVLM's adds some of its own, and warns of them at every prompt.
            arguments["processor_kwargs"] = {"add_special_tokens": False}
        return str(self.processor.apply_chat_template(messages, **arguments))

    def _encode(self, texts: list[str], prompts: Sequence[Prompt]) -> tuple[list[list[int]], dict[str, Tensor]]:
        """Token ids of rendered prompts, and the model's other arguments; those by token are left-padded."""
        images = [[image.load() for image in prompt.images] for prompt in prompts]
        arguments: dict[str, Any] = {"text": texts, "padding": True, "padding_side": "left", "return_tensors": "pt"}
        if any(images):
            arguments["images"] = images
        # The texts of a call come from one template.
        batch = dict(self.processor(**arguments, add_special_tokens=self.adds_beginning(texts[0])))
        ids_BT, mask_BT = batch.pop("input_ids"), batch.pop("attention_mask")
        ids = [row[mask.bool()].tolist() for row, mask in zip(ids_BT, mask_BT, strict=True)]
        return ids, batch

    def _pad(
        self, rows: list[list[int]], tail_lengths: list[int], extras: dict[str, Tensor], *, left: bool
    ) -> ModelInputs:
        width = max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id
        ids_BT = torch.full((len(rows), width), pad)
        mask_BT = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            span = slice(width - len(row), width) if left else slice(0, len(row))
            ids_BT[i, span] = torch.tensor(row)
            mask_BT[i, span] = 1
        laid_out = dict(extras)
        for name, value in extras.items():
            # Per-token extras (token_type_ids and the like) are laid out again; response tokens are plain text: 0.
            if name.endswith("token_type_ids"):
                again_BT = torch.zeros_like(ids_BT, dtype=value.dtype)
                for i, (row, tail) in enumerate(zip(rows, tail_lengths, strict=True)):
                    length = len(row) - tail
                    start = width - len(row) if left else 0
                    again_BT[i, start : start + length] = value[i, value.shape[1] - length :]
                laid_out[name] = again_BT
        return ModelInputs(ids_BT, mask_BT, laid_out)
