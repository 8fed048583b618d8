"""What differs between model families: how the model is called, where its hidden states and parts are.

Shapes: B rows, T tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from mstar.errors import ConfigError
from mstar.models.remote_rendering import MiniCPMVRenderer, PhiVisionRenderer
from mstar.rendering import Renderer

FreezablePart = Literal["vision", "projector", "language"]
# A Hugging Face model: a module, of whose own attributes nothing is known beforehand.
Model: TypeAlias = Any


@dataclass(frozen=True)
class AfterHead:
    """What a model does to the output of its language head before it is logits.

    Attributes:
        cap: The bound that it is squeezed below, by tanh; None for none.
        size: How many of the head's rows count; None for all.
    """

    scale: float = 1.0
    cap: float | None = None
    size: int | None = None

    def __call__(self, output: Tensor) -> Tensor:
        """Logits (..., V) of the head's output."""
        logits = output if self.size is None else output[..., : self.size]
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else (logits / self.cap).tanh() * self.cap


# By model type, from the configuration of its language model. That has such values for other models too, which do not
# use them (Gemma 3, Aya Vision): what a model really does is in its forward pass alone.
_AFTER_HEAD: Final[dict[str, Callable[[Any], AfterHead]]] = {
    "cohere_compass": lambda text: AfterHead(1.0 if text.logit_scale is None else text.logit_scale),
    "gemma3n": lambda text: AfterHead(cap=text.final_logit_softcapping),
    "gemma4": lambda text: AfterHead(cap=text.final_logit_softcapping),
    "gemma4_unified": lambda text: AfterHead(cap=text.final_logit_softcapping),
    "granite4_vision": lambda text: AfterHead(1 / text.logits_scaling),
    "hyperclovax_vision_v2": lambda text: AfterHead(text.logits_scaling),
    "inkling_mm_model": lambda text: AfterHead(1 / text.logits_mup_width_multiplier, size=text.unpadded_vocab_size),
    "muse_glimmer": lambda text: AfterHead(text.output_multiplier, text.final_logit_softcapping),
}


class Family:
    """The families that transformers has natively; others override what they do differently.

    Attributes:
        pictures_in_body: Whether the body takes the pictures; else they are among the embeddings that it is given.
        vision: Names on the path of a parameter of the vision tower.
        projector: The same of what maps its features to the language model; it may lie within the tower.
    """

    auto_class: ClassVar[str] = "AutoModelForImageTextToText"
    renderer: ClassVar[type[Renderer]] = Renderer
    pictures_in_body: ClassVar[bool] = True
    vision: ClassVar[frozenset[str]] = frozenset(
        {"vision_model", "vision_tower", "visual", "vision_encoder", "image_tower", "video_tower"}
        | {"high_res_vision_model", "vqmodel", "vision_embed_tokens"}
    )
    projector: ClassVar[frozenset[str]] = frozenset(
        {"connector", "multi_modal_projector", "merger", "deepstack_merger_list", "embed_vision", "image_newline"}
        | {"aligner", "projector", "mm_projector", "vision_projection", "vision_adapter", "visual_embeddings_table"}
        | {"high_res_vision_neck", "high_res_vision_proj", "high_res_vision_alpha", "view_separator"}
        | {"resampler_model", "layerwise_projectors", "spatial_projectors"}
    )

    def packs(self, model: Model) -> bool:
        """Whether positions that begin again keep packed rows apart; Cosmos 3 Edge has no plane for them."""
        return getattr(model.config, "model_type", "") != "cosmos3_edge"

    def has_planes(self, model: Model) -> bool:
        """Whether positions have three planes (Qwen2-VL's multimodal rotary positions)."""
        return hasattr(model.model, "get_rope_index")

    def hidden_states(
        self,
        model: Model,
        ids_BT: Tensor,
        mask_BT: Tensor | None,
        extras: Mapping[str, Tensor],
        positions: Tensor | None = None,
        cache: DynamicCache | None = None,
    ) -> Tensor:
        """The last hidden states (B, T, H).

        Args:
            mask_BT: 1 for real tokens; with a cache, those in it come first. None for packed rows.
            extras: What else the renderer made (``ModelInputs.extras``).
            positions: Position ids, (B, T) or with planes (3, B, T); None leaves them to the model.
            cache: Keys and values of earlier tokens, which grows in place; None for none.
        """
        hidden_BTH: Tensor = self.body(model)(
            **self._embeddable(model, ids_BT, extras),
            attention_mask=mask_BT,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return hidden_BTH

    def body(self, model: Model) -> nn.Module:
        """What makes the hidden states: the model without its head."""
        body: nn.Module = model.model
        return body

    def own_logits(self, model: Model, ids_BT: Tensor) -> Tensor:
        """The logits (B, T, V) of the model's own forward pass, of text."""
        logits: Tensor = model(input_ids=ids_BT, use_cache=False).logits
        return logits

    def _embeddable(self, model: Model, ids_BT: Tensor, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What stands for the text and the pictures in the call of the body."""
        return {"input_ids": ids_BT, **extras}

    def language_head(self, model: Model) -> nn.Module:
        """The layer that maps hidden states to logits."""
        head: nn.Module = model.get_output_embeddings()
        return head

    def logits(self, model: Model, hidden: Tensor) -> Tensor:
        """The logits (..., V), in float32, for hidden states of any leading shape."""
        output: Tensor = self.language_head(model)(hidden)
        return self.after_head(model)(output.float())

    def after_head(self, model: Model) -> AfterHead:
        """What the model does to the output of its head."""
        rule = _AFTER_HEAD.get(getattr(model.config, "model_type", ""))
        return AfterHead() if rule is None else rule(model.config.get_text_config(decoder=True))

    def part_of(self, name: str) -> FreezablePart:
        """The part that a parameter or module belongs to, by its full name; what is not vision is language."""
        path = set(name.split("."))
        if path & self.projector:
            return "projector"
        return "vision" if path & self.vision else "language"

    def parameters_of(self, model: Model, part: FreezablePart) -> list[nn.Parameter]:
        """The parameters of one part.

        Raises:
            ConfigError: the model has no such part.
        """
        names = [name for name, _ in model.named_parameters()]
        parts = {self.part_of(name) for name in names}
        # Where the tower is not known by name, its parameters would pass for the language model's.
        if part not in parts or "vision" not in parts:
            raise ConfigError(f"freeze: {type(model).__name__} has no part named '{part}'; remove it from 'freeze'.")
        return [parameter for name, parameter in model.named_parameters() if self.part_of(name) == part]


class PhiVision(Family):
    """Phi-3-vision and Phi-3.5-vision, with the Python code that Microsoft publishes with the weights."""

    auto_class = "AutoModelForCausalLM"
    renderer = PhiVisionRenderer
    vision = frozenset({"img_processor"})
    projector = frozenset({"img_projection", "glb_GN", "sub_GN"})

    def body(self, model: Model) -> nn.Module:
        """As of every family; its code asks for how many tokens a cache holds as in Transformers 4."""
        # Of the class: in the cache itself, it would be a cycle, and keep the memory.
        kind: Any = DynamicCache
        if not hasattr(kind, "get_usable_length"):
            kind.get_usable_length = lambda cache, new, layer=0: cache.get_seq_length(layer)
        return super().body(model)

    def _embeddable(self, model: Model, ids_BT: Tensor, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # The model overwrites the ids, which are negative where a picture stands.
        return super()._embeddable(model, ids_BT.clone(), extras)


class MiniCPMV(Family):
    """MiniCPM-Llama3-V-2.5, with the Python code that OpenBMB publishes with the weights."""

    auto_class = "AutoModelForCausalLM"
    renderer = MiniCPMVRenderer
    pictures_in_body = False
    vision = frozenset({"vpm"})
    projector = frozenset({"resampler"})

    def has_planes(self, model: Model) -> bool:
        """Never."""
        return False

    def body(self, model: Model) -> nn.Module:
        """The body of the language model within."""
        body: nn.Module = model.llm.model
        return body

    def own_logits(self, model: Model, ids_BT: Tensor) -> Tensor:
        """Those of the language model within; around it, the model takes what its processor makes of pictures."""
        logits: Tensor = model.llm(input_ids=ids_BT, use_cache=False).logits
        return logits

    def _embeddable(self, model: Model, ids_BT: Tensor, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # The pictures are put among the embeddings first.
        if extras:
            embeddings_BTH, _ = model.get_vllm_embedding({"input_ids": ids_BT, **_slices(extras)})
        else:
            embeddings_BTH = model.llm.get_input_embeddings()(ids_BT) * getattr(model.llm.config, "scale_emb", 1)
        return {"inputs_embeds": embeddings_BTH}

    def language_head(self, model: Model) -> nn.Module:
        """The head of the language model within."""
        head: nn.Module = model.llm.lm_head
        return head


def _slices(extras: Mapping[str, Tensor]) -> dict[str, Any]:
    """The pictures' slices in the form that MiniCPM-V takes: lists by row, each slice cut to its own size."""
    pixels, sizes, places_BT = extras["pixel_values"], extras["tgt_sizes"], extras["slice_token_type_ids"]
    rows: dict[str, Any] = {"pixel_values": [], "tgt_sizes": [], "image_bound": []}
    taken = 0
    for places_T in places_BT:
        bounds = []
        for number in range(1, int(places_T.max()) + 1):
            here = (places_T == number).nonzero().squeeze(1)
            bounds.append([int(here[0]), int(here[-1]) + 1])
        here_sizes = sizes[taken : taken + len(bounds)]
        widths = (here_sizes.prod(1) * pixels.shape[2]).tolist()
        rows["pixel_values"].append([pixels[taken + i, :, :, :width] for i, width in enumerate(widths)])
        rows["image_bound"].append(torch.tensor(bounds, dtype=torch.long).reshape(-1, 2))
        if bounds:
            rows["tgt_sizes"].append(here_sizes)
        taken += len(bounds)
    return rows


NATIVE: Final = Family()
# Families that come with their own Python code, by the model_type of their configuration.
REMOTE: Final[dict[str, Family]] = {"phi3_v": PhiVision(), "minicpmv": MiniCPMV()}


def family_of(model: nn.Module) -> Family:
    """How a model of its family is called."""
    config: Any = getattr(model, "config", None)
    return REMOTE.get(getattr(config, "model_type", ""), NATIVE)


def language_head(model: nn.Module) -> nn.Module:
    """The layer that maps hidden states to logits."""
    return family_of(model).language_head(model)
