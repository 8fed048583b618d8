"""The model families that vLLM runs for mstar: those for which it computes what Transformers computes.

``tests/vllm/test_engine_families.py`` proves it of every one of them on real vLLM: log-probabilities and greedy text
with and without pictures, before and after new weights, with adapters; every weight that vLLM holds is compared with
the trainer's. A family comes into the table with its proof; what is known of others is said when they are refused.
"""

from __future__ import annotations

from typing import Any, Final

from mstar.errors import ConfigError

# The model_type of the configuration, and what its users call it.
PROVEN_FAMILIES: Final = {
    "idefics3": "Idefics3",
    "smolvlm": "SmolVLM",
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
    "internvl": "InternVL 2.5/3",
    "mistral3": "Mistral Small 3.1",
    "llava": "LLaVA 1.5",
    "llava_next": "LLaVA-NeXT",
}

_REFUSED: Final = {
    "gemma3": "on a CPU vLLM reads a picture's tokens from left to right, so that nothing is proven",
    "glm4v": "its log-probabilities differed by 1.4e-5 nats with pictures, more than rounding gives others",
    "llava_onevision": "vLLM cuts pictures up otherwise where a prompt has several",
    "qwen3_vl_moe": "vLLM takes its experts' weights in another form",
}

# Language models within a family for which vLLM is proven right, by the model_type of their own configuration.
_REFUSED_LANGUAGE: Final = {
    "granite": "vLLM divides its logits by logits_scaling, and Transformers does not",
}
# How the configurations of language models with experts call their number.
_EXPERTS: Final = ("num_experts", "num_local_experts", "n_routed_experts")


def require_proven(model_type: str, engine: str = "VllmEngine") -> None:
    """Refuses a family for which vLLM isn't proven to compute what the trainer computes (``ConfigError``)."""
    if model_type not in PROVEN_FAMILIES:
        reason = _REFUSED.get(model_type, "nobody has proven that vLLM computes what Transformers computes for it")
        raise ConfigError(
            f"{engine} does not run models of the family '{model_type}' ({reason}): use the TransformersEngine, or "
            f"a model of {', '.join(PROVEN_FAMILIES.values())}."
        )


def require_proven_language(config: Any, engine: str) -> None:
    """Refuses a language model that vLLM is known not to compute as the trainer does (``ConfigError``)."""
    text = config.get_text_config()
    reason = _REFUSED_LANGUAGE.get(text.model_type)
    if any(getattr(text, name, None) for name in _EXPERTS):
        reason = "vLLM takes its experts' weights in another form"
    if reason is not None:
        raise ConfigError(
            f"{engine} does not run models of the family '{config.model_type}' whose language model is a "
            f"'{text.model_type}' ({reason}): use the TransformersEngine."
        )


def find_query_scaling(config: Any) -> tuple[int, float] | None:
    """From which position on a language model scales its queries, and how much; None if it does not (most).

    Ministral 3 does, as Llama 4: by 1 + much * log(1 + position // from). vLLM 0.32 looks for it under a name that the
    configurations of Transformers do not have, and would leave it out without a word.
    """
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    beta = rope.get("llama_4_scaling_beta")
    return (int(rope["original_max_position_embeddings"]), float(beta)) if beta else None
