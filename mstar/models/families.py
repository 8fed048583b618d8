"""What differs between model families: how the model is called, where its hidden states and parts are.

Shapes: B rows, T tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mstar.errors import ConfigError
from mstar.models.remote_rendering import MiniCPMVRenderer, PhiVisionRenderer
from mstar.rendering import Renderer

if TYPE_CHECKING:
    from transformers import DynamicCache

__all__ = ["Family", "FreezablePart", "MiniCPMV", "PhiVision"]

FreezablePart = Literal["vision", "projector", "language"]


class Family:
    """The families that transformers has natively; others override what they do differently.

    Attributes:
        auto_class: Transformers' class that loads the model.
        renderer: The renderer of the family's processor.
        vision: Names on the path of a parameter of the vision tower.
        projector: The same of what maps its features to the language model; it may lie within the tower.
    """

    auto_class: ClassVar[str] = "AutoModelForImageTextToText"
    renderer: ClassVar[type[Renderer]] = Renderer
    vision: ClassVar[frozenset[str]] = frozenset({"vision_model", "vision_tower", "visual", "vision_encoder"})
    projector: ClassVar[frozenset[str]] = frozenset(
        {"connector", "multi_modal_projector", "merger", "deepstack_merger_list", "embed_vision", "image_newline"}
    )

    def has_planes(self, model: nn.Module) -> bool:
        """Whether positions have three planes (Qwen2-VL's multimodal rotary positions)."""
        untyped: Any = model
        return hasattr(untyped.model, "get_rope_index")

    def hidden_states(
        self,
        model: nn.Module,
        ids_BT: Tensor,
        mask_BT: Tensor | None,
        extras: Mapping[str, Tensor],
        positions: Tensor | None = None,
        cache: DynamicCache | None = None,
    ) -> Tensor:
        """The last hidden states (B, T, H).

        Args:
            model: The model.
            ids_BT: Token ids.
            mask_BT: 1 for real tokens; with a cache, those in it come first. None for packed rows.
            extras: What else the renderer made (``ModelInputs.extras``).
            positions: Position ids, (B, T) or with planes (3, B, T); None leaves them to the model.
            cache: Keys and values of earlier tokens, which grows in place; None for none.
        """
        hidden_BTH: Tensor = self._body(model)(
            **self._embeddable(model, ids_BT, extras),
            attention_mask=mask_BT,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return hidden_BTH

    def _body(self, model: nn.Module) -> nn.Module:
        """What makes the hidden states: the model without its head."""
        untyped: Any = model
        body: nn.Module = untyped.model
        return body

    def _embeddable(self, model: nn.Module, ids_BT: Tensor, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What stands for the text and the pictures in the call of the body."""
        return {"input_ids": ids_BT, **extras}

    def language_head(self, model: nn.Module) -> nn.Module:
        """The layer that maps hidden states to logits."""
        untyped: Any = model
        head = untyped.get_output_embeddings()
        if not isinstance(head, nn.Module):
            raise ConfigError(f"{type(model).__name__} has no output embeddings: it cannot be used as a policy.")
        return head

    def part_of(self, name: str) -> FreezablePart:
        """The part that a parameter or module belongs to, by its full name; what is not vision is language."""
        path = set(name.split("."))
        if path & self.projector:
            return "projector"
        return "vision" if path & self.vision else "language"

    def parameters_of(self, model: nn.Module, part: FreezablePart) -> list[nn.Parameter]:
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

    def _embeddable(self, model: nn.Module, ids_BT: Tensor, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # The model overwrites the ids, which are negative where a picture stands.
        return super()._embeddable(model, ids_BT.clone(), extras)


class MiniCPMV(Family):
    """MiniCPM-Llama3-V-2.5, with the Python code that OpenBMB publishes with the weights."""

    auto_class = "AutoModelForCausalLM"
    renderer = MiniCPMVRenderer
    vision = frozenset({"vpm"})
    projector = frozenset({"resampler"})

    def has_planes(self, model: nn.Module) -> bool:
        """Never."""
        return False

    def _body(self, model: nn.Module) -> nn.Module:
        untyped: Any = model
        body: nn.Module = untyped.llm.model
        return body

    def _embeddable(self, model: nn.Module, ids_BT: Tensor, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # The pictures are put among the embeddings first.
        untyped: Any = model
        if extras:
            embeddings_BTH, _ = untyped.get_vllm_embedding({"input_ids": ids_BT, **_slices(extras)})
        else:
            embeddings_BTH = untyped.llm.get_input_embeddings()(ids_BT) * getattr(untyped.llm.config, "scale_emb", 1)
        return {"inputs_embeds": embeddings_BTH}

    def language_head(self, model: nn.Module) -> nn.Module:
        """The head of the language model within."""
        untyped: Any = model
        head: nn.Module = untyped.llm.lm_head
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
