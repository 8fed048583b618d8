"""Which models vLLM is not given: unproven families, and some language models within the proven ones."""

from __future__ import annotations

from typing import Any

import pytest
import transformers

from mstar.errors import ConfigError
from mstar.generation.vllm_families import PROVEN_FAMILIES, find_query_scaling, require_proven, require_proven_language

untyped: Any = transformers


def test_proven_families_with_their_usual_language_models() -> None:
    for family in PROVEN_FAMILIES:
        require_proven(family)
        require_proven_language(untyped.AutoConfig.for_model(family), "VllmEngine")


@pytest.mark.parametrize(
    ("family", "language", "reason"),
    [
        ("internvl", "qwen3_moe", "its experts' weights"),  # InternVL3.5-30B-A3B
        ("internvl", "gpt_oss", "its experts' weights"),  # InternVL3.5-GPT-OSS-20B-A4B
        ("llava_next", "granite", "logits_scaling"),  # Granite Vision 3
    ],
)
def test_a_language_model_that_vllm_computes_otherwise(family: str, language: str, reason: str) -> None:
    config = untyped.AutoConfig.for_model(family, text_config={"model_type": language})
    sentence = f"family '{family}' whose language model is a '{language}' .*{reason}.* use the TransformersEngine"
    with pytest.raises(ConfigError, match=sentence):
        require_proven_language(config, "VllmServerEngine")


def test_queries_that_are_scaled_from_a_position_on() -> None:
    rope = {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 16384, "llama_4_scaling_beta": 0.1}
    text = {"model_type": "ministral3", "rope_parameters": rope | {"rope_theta": 1e6}}
    assert find_query_scaling(untyped.AutoConfig.for_model("mistral3", text_config=text)) == (16384, 0.1)
    for family in PROVEN_FAMILIES:
        assert find_query_scaling(untyped.AutoConfig.for_model(family)) is None
