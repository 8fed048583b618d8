"""What is refused before a fit has written anything."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from mstar.__main__ import main
from mstar.cli.parsing import Parser
from mstar.errors import ConfigError
from mstar.models.lora import LoraSettings
from mstar.modules import MPRMModule, PolicyModule
from mstar.modules.trainable import check_trainable
from mstar.trainer import ShardedStrategy


def trainer(precision: Any, strategy: Any = "auto") -> Trainer:
    return Trainer(accelerator="cpu", precision=precision, strategy=strategy, logger=False, enable_checkpointing=False)


@pytest.mark.parametrize("kind", [PolicyModule, MPRMModule])
@pytest.mark.parametrize(("dtype", "precision"), [("bfloat16", "32-true"), ("bfloat16", "bf16-mixed")])
def test_a_rate_that_cannot_move_16_bits(warm_policy: Path, kind: Any, dtype: str, precision: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.lr is 1e-06, .* in bfloat16"):
        check_trainable(kind(str(warm_policy), lr=1e-6, dtype=dtype), trainer(precision))
    check_trainable(kind(str(warm_policy), lr=1e-2, dtype=dtype), trainer(precision))


@pytest.mark.parametrize(("precision", "named"), [("bf16-true", "bfloat16"), ("16-true", "float16")])
def test_a_policy_that_is_converted_whole(warm_policy: Path, precision: str, named: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.lr is 1e-07, .* in {named}"):
        check_trainable(PolicyModule(str(warm_policy), lr=1e-7), trainer(precision))
    larger = partial(torch.optim.AdamW, eps=1e-4)
    check_trainable(PolicyModule(str(warm_policy), lr=1e-2, optimizer=larger), trainer(precision))


def test_an_optimizer_whose_eps_is_nothing_in_float16(warm_policy: Path) -> None:
    """Of a weight without a gradient, its first step would divide 0 by 0."""
    with pytest.raises(ConfigError, match=r"eps is 1e-08, which is 0 in float16, the type of the trained weights"):
        check_trainable(PolicyModule(str(warm_policy), lr=1e-2), trainer("16-true"))
    check_trainable(PolicyModule(str(warm_policy), lr=1e-2), trainer("bf16-true"))


def test_an_optimizer_that_cannot_move_sharded_weights() -> None:
    optim = pytest.importorskip("bitsandbytes").optim
    module = PolicyModule("unused", optimizer=partial(optim.PagedAdamW8bit, eps=1e-6))
    sharded = trainer("32-true", ShardedStrategy())
    with pytest.raises(ConfigError, match=r"model.optimizer PagedAdamW8bit is one of bitsandbytes"):
        check_trainable(module, sharded)
    check_trainable(module, trainer("32-true"))
    # A refreshed MPRM is trained unsplit.
    check_trainable(PolicyModule("unused"), sharded, 1e-4, optim.AdamW8bit)


def test_a_fused_optimizer_whose_gradients_are_clipped() -> None:
    """Lightning refuses it at the first optimizer step, with a traceback."""
    fused = partial(torch.optim.AdamW, fused=True)
    module, mixed = PolicyModule("unused", optimizer=fused), trainer("bf16-mixed")
    check_trainable(module, mixed)
    mixed.gradient_clip_val = 1.0
    with pytest.raises(
        ConfigError, match=r"model\.optimizer AdamW is fused, .*\.precision bf16-mixed: leave fused out"
    ):
        check_trainable(module, mixed)
    check_trainable(PolicyModule("unused"), mixed)
    whole = trainer("32-true")
    whole.gradient_clip_val = 1.0
    check_trainable(module, whole)
    # A refreshed MPRM's are clipped whatever the trainer does.
    name = "rollout.refresh_reward_model."
    with pytest.raises(ConfigError, match=rf"{name}optimizer AdamW is fused"):
        check_trainable(PolicyModule("unused"), trainer("bf16-mixed"), 1e-4, fused, name=f"{name}lr")


def test_what_has_32_bits_passes(warm_policy: Path) -> None:
    check_trainable(PolicyModule(str(warm_policy), lr=1e-9), trainer("bf16-mixed"))
    adapters = LoraSettings(rank=2)
    check_trainable(PolicyModule(str(warm_policy), lr=1e-9, dtype="bfloat16", lora=adapters), trainer("bf16-mixed"))


def test_a_part_of_32_bits_beside_others_of_16_needs_autocast(warm_policy: Path) -> None:
    lora = LoraSettings(rank=2, modules_to_save=("projector",))
    mixed = PolicyModule(str(warm_policy), dtype="bfloat16", lora=lora)
    with pytest.raises(ConfigError, match=r"which trainer\.precision 32-true cannot compute with: set .* bf16-mixed"):
        check_trainable(mixed, trainer("32-true"))
    check_trainable(mixed, trainer("bf16-mixed"))
    check_trainable(PolicyModule(str(warm_policy), lora=lora), trainer("32-true"))


def test_what_would_lose_its_32_bits(warm_policy: Path) -> None:
    adapted = PolicyModule(str(warm_policy), lora=LoraSettings(rank=2))
    with pytest.raises(ConfigError, match=r"bf16-true stores the adapters in 16 bits too"):
        check_trainable(adapted, trainer("bf16-true"))
    with pytest.raises(ConfigError, match=r"bf16-true stores an MPRM's head in 16 bits too"):
        check_trainable(MPRMModule(str(warm_policy), lr=1.0), trainer("bf16-true"))


def test_the_command_line_refuses_it_before_anything_is_written(
    evolve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = evolve.write(evolve.settings())
    given = ["fit", "--config", str(config), "--model.dtype", "bfloat16", "--model.lr", "1e-6"]
    assert main(given) == 1
    assert "model.lr is 1e-06" in capsys.readouterr().err
    assert not (evolve.folder / "run").exists()


def test_the_rate_of_an_mprm_that_is_retrained_in_the_run_counts_too(
    evolve: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": "refresh", "size": 4}}
    refresh = {"iterations": [2], "prompts": prompts, "lr": 1e-6}
    config = evolve.write(evolve.settings(refresh_reward_model=refresh))
    assert main(["fit", "--config", str(config), "--model.dtype", "bfloat16", "--model.lr", "1e-2"]) == 1
    assert "rollout.refresh_reward_model.lr is 1e-06" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--model.optimizer.lr", "0.3"], ["the optimizer's own lr, 0.3, is not read: the rate is model.lr, 0.01"]),
        (["--model.optimizer.lr", "0.01"], []),
        ([], []),
    ],
)
def test_a_rate_of_the_optimizers_own_is_told(
    warm_policy: Path, caplog: pytest.LogCaptureFixture, options: list[str], told: list[str]
) -> None:
    parser = Parser()
    parser.add_subclass_arguments(PolicyModule, "model")
    given = ["--model", "mstar.modules.PolicyModule", "--model.model_name", str(warm_policy), "--model.lr", "0.01"]
    module = parser.instantiate(parser.parse_args([*given, "--model.optimizer", "torch.optim.SGD", *options])).model
    check_trainable(module, trainer("32-true"))
    assert [record.getMessage() for record in caplog.records if record.name == "mstar.modules.trainable"] == told
