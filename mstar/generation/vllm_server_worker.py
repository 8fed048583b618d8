"""What ``vllm serve`` loads of mstar: it takes weights from a folder, and says exactly which it has.

``vllm serve ... --worker-extension-cls mstar.generation.vllm_server_worker.WeightExtension`` makes it a base class of
vLLM's workers; mstar must be installed beside vLLM for it. An error in here would end the server, and so what can go
wrong is said in the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mstar.generation.vllm_comparison import HeldWeights, compare_named
from mstar.generation.vllm_prompts import picture_settings
from mstar.generation.weight_files import WeightsFingerprint, read_weights

if TYPE_CHECKING:
    from torch import Tensor


class WeightExtension:
    """Methods that ``VllmServerEngine`` calls of vLLM's worker; what they return is JSON."""

    def mstar_describe(self: Any) -> dict[str, Any]:
        """The family and the sizes of the model that this worker runs, and how its processor prepares pictures."""
        from transformers import AutoProcessor

        config = self.vllm_config.model_config
        # As vLLM loads it; another model than the policy's may have none.
        origin = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
        processor = AutoProcessor.from_pretrained(config.model, **origin) if config.is_multimodal_model else None
        return model_sizes(config.hf_config) | {"pictures": picture_settings(processor)}

    def mstar_load_weights(self: Any, folder: str) -> dict[str, Any]:
        """Takes the weights in a folder.

        Args:
            folder: Where ``VllmServerEngine`` wrote them, as this machine sees it.

        Returns:
            ``fingerprint`` of what was read; None if there is nothing.
        """
        if not any(Path(folder).glob("*.safetensors")):
            return {"fingerprint": None}
        fingerprint = WeightsFingerprint()
        self.reload_weights(weights_iterator=read_weights(Path(folder), fingerprint))
        return {"fingerprint": str(fingerprint)}

    def mstar_compare_weights(self: Any, folder: str) -> dict[str, Any]:
        """Compares all weights that this worker computes with with those in a folder, each exactly.

        Returns:
            ``fingerprint`` of what was read; ``compared``, how many tensors; ``different``, the names of those that are
            not equal.
        """
        held = HeldWeights(self.model_runner.get_model(), self.vllm_config.model_config.dtype)
        fingerprint = WeightsFingerprint()
        compared, different = compare_named(held, read_weights(Path(folder), fingerprint))
        return {"fingerprint": str(fingerprint), "compared": compared, "different": different}

    def mstar_compare_sent(self: Any, update_info: dict[str, Any]) -> dict[str, Any]:
        """Compares all weights that this worker computes with with those that are sent to it meanwhile, each exactly.

        Args:
            update_info: What vLLM's route for weights takes: their names, types and shapes.

        Returns:
            As ``mstar_compare_weights``, without a fingerprint.
        """
        engine, held = self.weight_transfer_engine, self.model_runner.get_model()
        model = engine.model
        comparing = engine.model = _Comparing(HeldWeights(held, self.vllm_config.model_config.dtype))
        try:
            engine.receive_weights(engine.parse_update_info(update_info))
        finally:
            engine.model = model
        return {"compared": comparing.compared, "different": comparing.different}


class _Comparing:
    """Takes the model's place where weights arrive, and looks at them."""

    def __init__(self, held: HeldWeights) -> None:
        self._held = held
        self.compared = 0
        self.different: list[str] = []

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        compared, different = compare_named(self._held, weights)
        self.compared += compared
        self.different += different


def model_sizes(config: Any) -> dict[str, Any]:
    """What any two descriptions of a model have in common: the family, and the sizes of its language model."""
    text = config.get_text_config()
    names = ("vocab_size", "hidden_size", "num_hidden_layers")
    return {"model_type": config.model_type} | {name: getattr(text, name, None) for name in names}
