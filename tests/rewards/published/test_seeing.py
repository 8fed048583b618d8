"""Published reward models that see pictures: what is refused, and how every text begins."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from mstar.errors import ConfigError
from mstar.rewards import RewardHost
from mstar.rewards.published import MMPRM, VisualPRM

from .conftest import (  # type: ignore[import-not-found]
    dice,
    make_twin,
)


def test_what_is_no_such_model_is_refused(tiny_families: ModuleType, tmp_path: Path) -> None:
    twin = make_twin(tiny_families, "idefics3", tmp_path)
    with pytest.raises(ConfigError, match="is not a model for MMPRM: its tokenizer has no token 'Yes'"):
        MMPRM(twin.folder).load(RewardHost())
    published = tmp_path / "published"
    published.mkdir()
    (published / "config.json").write_text('{"model_type": "internvl_chat", "auto_map": {"AutoConfig": "c.C"}}')
    with pytest.raises(ConfigError, match="is in InternVL's first form"):
        VisualPRM(str(published)).load(RewardHost())


def test_a_tokenizer_that_begins_every_text_with_a_token_does_so_here(
    tiny_families: ModuleType, tmp_path: Path
) -> None:
    from tokenizers.processors import TemplateProcessing

    twin = make_twin(tiny_families, "idefics3", tmp_path, ["<prm>", "Yes", "No", "<s>"])
    tokens = twin.processor.tokenizer
    tokens.bos_token = "<s>"  # noqa: S105 - a token of another kind
    begin = [("<s>", tokens.convert_tokens_to_ids("<s>"))]
    tokens.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=begin)
    twin.processor.save_pretrained(tmp_path)
    reward = MMPRM(twin.folder)
    reward.load(RewardHost())
    text = "<s>" + reward._text((dice(), ("a", "b")))
    assert text.startswith("<s><|im_start|>system\n")
    [[found]] = reward.score_steps([(dice(), [["a", "b"]])])
    ids, logits_TV = twin.logits(text, dice().images[0].load())
    marked = ids == tokens.convert_tokens_to_ids("<prm>")
    assert found == pytest.approx([twin.share(logits_V, "Yes", "No") for logits_V in logits_TV[marked]], abs=1e-5)
