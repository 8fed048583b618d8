"""Vision-language models of Transformers that answer, at places in a text with pictures, by one of two tokens.

Shapes: B rows, T tokens, N the steps of all rows in order, H hidden.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final

from torch import Tensor, nn

from mstar.errors import ConfigError
from mstar.models.backbone import (
    UNUSABLE,
    check_trust,
    explain_unusable,
    load_model,
    load_renderer,
    require_reachable,
)
from mstar.models.families import family_of
from mstar.models.prefix import logits_of
from mstar.rendering import Renderer
from mstar.rewards.base import RewardHost
from mstar.rewards.published.base import Chain, PublishedReward, at_places
from mstar.types import PICTURE

# The system turn of InternVL 2.5 (internvl/conversation.py).
INTERNVL_SYSTEM: Final = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"  # noqa: RUF001 - its commas are part of it
)


class SeeingModel(PublishedReward):
    """A model that Transformers has, with pictures; the adapters say what it reads, and where it answers.

    Attributes:
        answers: The tokens for "right" and for "wrong".
        marks: Texts that a step must not hold, because the model knows them for something else.
        most_parts: Into how many parts a picture is cut at most, where the processor cuts it (InternVL); None for as
            many as its own settings say.
    """

    answers: ClassVar[tuple[str, str]]
    marks: ClassVar[tuple[str, ...]] = ("<|im_start|>", "<|im_end|>")
    most_parts: ClassVar[int | None] = None
    _renderer: Renderer

    @abstractmethod
    def _text(self, chain: Chain) -> str:
        """What it reads of a response, pictures as the processor's placeholders."""

    @abstractmethod
    def _places(self, ids: Sequence[int], count: int) -> list[int]:
        """Where among a row's tokens so many steps are answered."""

    def _load(self, host: RewardHost, dtype: str) -> nn.Module:
        origin: dict[str, Any] = {"trust_remote_code": host.trust_remote_code, "revision": self.revision}
        self._check_form(origin)
        model = load_model(self.model, dtype=dtype, attention=host.attention, **origin)
        self._renderer = load_renderer(self.model, model, **origin)
        images: Any = getattr(self._renderer.processor, "image_processor", None)
        if self.most_parts is not None and hasattr(images, "max_patches"):
            images.max_patches = min(images.max_patches, self.most_parts)
        self._unwanted = re.compile("|".join(map(re.escape, (*self.marks, *self._renderer.placeholders, PICTURE))))
        self._answer_ids = [self._token(text) for text in self.answers]
        return model

    def _check_form(self, origin: dict[str, Any]) -> None:
        """Refuses InternVL's first form: not even with its own code is it a model that Transformers loads as others."""
        from transformers import PreTrainedConfig

        check_trust(self.model, origin["trust_remote_code"], self.revision)
        try:
            require_reachable(self.model, self.revision)
            config, _ = PreTrainedConfig.get_config_dict(self.model, revision=self.revision)
        except UNUSABLE as error:
            raise explain_unusable(self.model, error) from error
        if config.get("model_type") == "internvl_chat":
            raise ConfigError(
                f"'{self.model}' is in InternVL's first form (internvl_chat), but {type(self).__name__} reads that of "
                "Transformers: convert it once, as docs/score.md in the repository says, and name the folder that is "
                "written."
            )

    def _token(self, text: str) -> int:
        tokenizer = self._renderer.tokenizer
        found = tokenizer.convert_tokens_to_ids(text)
        if found is None or found == tokenizer.unk_token_id:
            raise ConfigError(
                f"'{self.model}' is not a model for {type(self).__name__}: its tokenizer has no token '{text}'."
            )
        return int(found)

    def _plain(self, text: str) -> str:
        """A step without what would end its turn, or stand for a picture or an answer."""
        while (cleaned := self._unwanted.sub("", text)) != text:
            text = cleaned
        return text

    def _logits(self, model: nn.Module, chains: Sequence[Chain]) -> Tensor:
        texts = [self._text(chain) for chain in chains]
        inputs = self._renderer.text_inputs(texts, [prompt for prompt, _ in chains]).to(self._device)
        self._lengths = inputs.mask_BT.sum(1).tolist()
        places = [self._places(row, len(steps)) for row, (_, steps) in zip(inputs.ids_BT.tolist(), chains, strict=True)]
        hidden_BTH = family_of(model).hidden_states(model, inputs.ids_BT, inputs.mask_BT, inputs.extras)
        return logits_of(model, at_places(hidden_BTH, places))[:, self._answer_ids]
