"""URSA-RM-8B (Luo et al. 2025, arXiv 2501.04686).

Read as its authors do (github.com/URSA-MATH/URSA-MATH: ``inference/prm_infer_score.py``): steps are numbered, `` и``
stands behind each, and the model's logit there is that of the step's being right. The answer (``†Answer: ...``), which
ends URSA-8B's responses, is no step to it.

Shapes: B rows, T tokens, L tokens with a picture's features for its token, P pictures, F features, H hidden, N the
steps of all rows in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn

from mstar.errors import ConfigError
from mstar.models.backbone import UNUSABLE, explain_unusable, require_reachable
from mstar.models.response_scorer import pad_rows
from mstar.rewards.base import RewardHost
from mstar.rewards.published.base import Chain, PublishedReward, at_places, question_of
from mstar.rewards.published.marked_text import find_marks, only_token
from mstar.rewards.published.ursa_model import PictureSettings, UrsaScorer, make_ursa, read_weights
from mstar.storage import read_json
from mstar.types import PICTURE, Prompt

_INSTRUCTION: Final = (
    "You are given a problem and a step-by-step solution. You need to check the correctness of each step.\nQuestion:"
)
_IMAGE: Final = "<|image|>"
_ANSWER: Final = "†Answer:"


class URSA(PublishedReward):
    """URSA-RM: a picture and text in one turn, a tag behind every step, one logit there.

    A step that does not begin with ``Step 1:`` is numbered so. Lines from ``†Answer:`` on have the score of the step
    before them, and are no step where there is one.
    """

    mark: ClassVar[str] = " и"

    def _load(self, host: RewardHost, dtype: str) -> nn.Module:
        from transformers import AutoTokenizer, PreTrainedConfig

        untyped: Any = AutoTokenizer
        try:
            require_reachable(self.model, self.revision)
            config = self._read("config.json")
            if config.get("model_type") != "ursa":
                raise ConfigError(f"its config.json says '{config.get('model_type')}', and not 'ursa'")
            self._template: str | None = self._read("chat_template.json", needed=False).get("chat_template")
            model = make_ursa(config, dtype)
            self._pictures = PictureSettings(config, self._read("preprocessor_config.json"))
            # Transformers has no configuration of this name, and the tokenizer needs none.
            self._tokenizer = untyped.from_pretrained(
                self.model, revision=self.revision, config=PreTrainedConfig(), trust_remote_code=False
            )
            read_weights(model, self._weight_files())
        except UNUSABLE as error:
            raise explain_unusable(self.model, error) from error
        except ConfigError as error:
            raise ConfigError(f"'{self.model}' is not a model for URSA: {error}.") from error
        self._image_id = int(config["image_token_index"])
        self._mark_id = only_token(self, self._tokenizer, self.mark)
        if only_token(self, self._tokenizer, _IMAGE) != self._image_id:
            raise ConfigError(f"'{self.model}' is not a model for URSA: '{_IMAGE}' is not its image_token_index.")
        return model

    def _read(self, name: str, needed: bool = True) -> Mapping[str, Any]:
        path = self._find(name, needed)
        return {} if path is None else read_json(Path(path))

    def _find(self, name: str, needed: bool = True) -> str | None:
        from transformers.utils.hub import cached_file

        found: str | None = cached_file(
            self.model, name, revision=self.revision, _raise_exceptions_for_missing_entries=needed
        )
        return found

    def _weight_files(self) -> list[str]:
        index = self._read("model.safetensors.index.json", needed=False)
        names = sorted(set(index["weight_map"].values())) if index else ["model.safetensors"]
        return [path for name in names if (path := self._find(name)) is not None]

    def _render(self, chain: Chain) -> tuple[str, list[str], str]:
        """What stands before the steps, the steps (each ends with the mark), and what stands behind them."""
        prompt, given = chain
        steps = [self._plain(step) for step in given]
        # The answer alone is judged as a step.
        count = next((place for place, step in enumerate(steps) if step.startswith(_ANSWER)), 0) or len(steps)
        gap = "\n" if self.separator == "line" else "\n\n"
        marked = [
            f"{gap if number > 1 else ''}{step if step.startswith('Step ') else f'Step {number}: {step}'}{self.mark}"
            for number, step in enumerate(steps[:count], start=1)
        ]
        process = "".join(marked) + "".join(gap + step for step in steps[count:])
        turns = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": f"{self._asked(prompt)}\n{process}"},
        ]
        text: str = self._tokenizer.apply_chat_template(
            turns, chat_template=self._template, tokenize=False, add_generation_prompt=True
        )
        head, _, tail = text.rpartition(process)
        return head, marked, process[len("".join(marked)) :] + tail

    def _asked(self, prompt: Prompt) -> str:
        question = self._plain(question_of(prompt))
        if question.count(PICTURE) != len(prompt.images):
            question = question.replace(PICTURE, "")
        pictures = "" if PICTURE in question else _IMAGE * len(prompt.images)
        return f"{pictures}{_INSTRUCTION}{question.replace(PICTURE, _IMAGE)}"

    def _plain(self, text: str) -> str:
        """A text without what would end its turn, or stand for a picture."""
        marks = (_IMAGE, "<|im_start|>", "<|im_end|>")
        while any(mark in text for mark in marks):
            for mark in marks:
                text = text.replace(mark, "")
        return text

    def _logits(self, model: nn.Module, chains: Sequence[Chain]) -> Tensor:
        assert isinstance(model, UrsaScorer)  # noqa: S101 - what _load made
        features = self._features(model, {prompt.id: prompt for prompt, _ in chains})
        rows, places = [], []
        for prompt, steps in chains:
            ids, marks = find_marks(self, self._tokenizer, self._mark_id, *self._render((prompt, steps)))
            ids_T = torch.tensor(ids)
            # A picture's token stands for all its features.
            times_T = torch.ones_like(ids_T)
            if prompt.images:
                times_T[ids_T == self._image_id] = features[prompt.id].shape[1]
            rows.append(ids_T.repeat_interleave(times_T).tolist())
            judged = (times_T.cumsum(0) - 1)[marks].tolist()
            places.append(judged + judged[-1:] * (len(steps) - len(judged)))
        self._lengths = [len(row) for row in rows]
        ids_BL, mask_BL = (value.to(self._device) for value in pad_rows(rows))
        backbone: Any = model.backbone
        embedded_BLH = backbone.get_input_embeddings()(ids_BL)
        shown = [features[prompt.id].flatten(0, 1) for prompt, _ in chains if prompt.images]
        if shown:
            embedded_BLH[(ids_BL == self._image_id) & mask_BL.bool()] = torch.cat(shown)
        hidden_BLH = backbone.language_model(
            inputs_embeds=embedded_BLH, attention_mask=mask_BL, use_cache=False
        ).last_hidden_state
        right_N1 = model.score(at_places(hidden_BLH, places))
        # One logit is the sigmoid's, which is the softmax's with nothing against it.
        return torch.cat([right_N1, torch.zeros_like(right_N1)], dim=1)

    def _features(self, model: UrsaScorer, prompts: Mapping[str, Prompt]) -> dict[str, Tensor]:
        """The features of every prompt's pictures (P, F, H), by the prompts' ids."""
        backbone: Any = model.backbone
        dtype = model.score.weight.dtype
        found: dict[str, Tensor] = {}
        for key, prompt in prompts.items():
            if prompt.images:
                high_PCSS, low_PCSS = self._pictures.prepare([image.load() for image in prompt.images])
                sides = (low_PCSS.to(self._device, dtype), high_PCSS.to(self._device, dtype))
                found[key] = backbone.get_image_features(*sides).pooler_output
        return found
