"""Fits with adapters: what a checkpoint holds, exact resuming, exports, and going back to the start."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything

from mstar.__main__ import main
from mstar.datamodules import PolicyDataModule, StepLabelDataModule
from mstar.errors import ConfigError
from mstar.generation import TransformersEngine
from mstar.models.backbone import load_model
from mstar.models.export import save_model
from mstar.models.lora import LoraSettings, merged_state
from mstar.models.step_scorer import StepScorer
from mstar.modules import MPRMModule, PolicyModule
from mstar.prompts import TinyDice

LORA = LoraSettings(rank=4, alpha=16, dropout=0.1)
SEED = TinyDice("seed", 32)


@pytest.fixture(scope="module")
def folder(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The embedded model as a folder."""
    path = tmp_path_factory.mktemp("tiny")
    save_model(tiny.model, tiny.renderer, path)
    return str(path)


def trainer(root: Path, **settings: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(**{"accelerator": "cpu", "logger": False, "default_root_dir": root, **quiet, **settings})


def policy(folder: str, **settings: Any) -> PolicyModule:
    seed_everything(3)
    return PolicyModule(
        folder, **{"lr": 1e-2, "engine": TransformersEngine(8, progress=False), "lora": LORA, **settings}
    )


def fit(module: PolicyModule, root: Path, epochs: int, checkpoint: Path | None = None) -> Trainer:
    run = trainer(root, max_epochs=epochs)
    run.fit(module, datamodule=PolicyDataModule(SEED, batch_size=8), ckpt_path=checkpoint)
    return run


def export(checkpoint: Path, output: Path, *more: str) -> int:
    return main(["export", "--checkpoint", str(checkpoint), "--output", str(output), *more])


def test_a_checkpoint_holds_the_adapters_alone_and_is_exported_as_the_merged_model(folder: str, tmp_path: Path) -> None:
    module = policy(folder, freeze=["vision", "projector"])
    start = load_model(folder).state_dict()
    fit(module, tmp_path, 1).save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert {name.rpartition(".lora_")[1] for name in checkpoint["state_dict"]} == {".lora_"}
    assert len(checkpoint["optimizer_states"][0]["state"]) == len(checkpoint["state_dict"]) == 42
    # The model itself has 2.8 MB.
    assert (tmp_path / "last.ckpt").stat().st_size < 1_000_000

    assert export(tmp_path / "last.ckpt", tmp_path / "exported") == 0
    module.export(tmp_path / "direct")
    merged = merged_state(module.policy)
    for name in ("exported", "direct"):
        state = load_model(str(tmp_path / name)).state_dict()
        assert set(state) == set(start)
        for key, value in state.items():
            assert torch.equal(value, merged[key]), key
    changed = {key for key, value in merged.items() if not torch.equal(value, start[key])}
    assert len(changed) == 21
    assert all(".text_model.layers." in key for key in changed)


def test_adapters_are_exported_alone_for_peft(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from peft import PeftModel

    module = policy(folder)
    fit(module, tmp_path, 1).save_checkpoint(tmp_path / "last.ckpt")
    assert export(tmp_path / "last.ckpt", tmp_path / "adapter", "--adapter") == 0
    assert (tmp_path / "adapter/adapter_model.safetensors").stat().st_size < 300_000
    loaded = PeftModel.from_pretrained(load_model(folder), str(tmp_path / "adapter"))
    assert loaded.peft_config["default"].base_model_name_or_path == folder
    merged = merged_state(module.policy)
    for name, value in loaded.merge_and_unload().state_dict().items():
        torch.testing.assert_close(value, merged[name], rtol=0, atol=1e-6)
    # An export of its own kind takes its place.
    assert export(tmp_path / "last.ckpt", tmp_path / "adapter", "--merged") == 0
    assert (tmp_path / "adapter/model.safetensors").exists()
    capsys.readouterr()
    assert export(tmp_path / "last.ckpt", tmp_path / "other", "--adapter", "true", "--dtype", "bfloat16") == 1
    assert "dtype is for a whole model" in capsys.readouterr().err
    assert export(tmp_path / "last.ckpt", tmp_path / "other", "--adapter", "--merged") == 1
    assert "merged is for a whole model" in capsys.readouterr().err


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4, modules_to_save=("projector",))])
def test_adapters_that_are_not_all_are_not_exported_alone(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], lora: LoraSettings | None
) -> None:
    fit(policy(folder, lora=lora), tmp_path, 1).save_checkpoint(tmp_path / "last.ckpt")
    assert export(tmp_path / "last.ckpt", tmp_path / "out", "--adapter", "true") == 1
    assert "more was trained than adapters" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_other_adapters_or_on_another_model_is_refused(folder: str, tmp_path: Path) -> None:
    fit(policy(folder), tmp_path, 1).save_checkpoint(tmp_path / "last.ckpt")
    for lora in (None, LoraSettings(rank=8)):
        with pytest.raises(ConfigError, match=r"made with model\.lora \{'rank': 4.*: set it back"):
            fit(policy(folder, lora=lora), tmp_path, 2, tmp_path / "last.ckpt")
    other = policy(folder)
    with torch.no_grad():
        other.policy.model.text_model.norm.weight[0] = 2  # type: ignore[union-attr,index,operator]
    save_model(other.policy, other.renderer, tmp_path / "other")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"adapters for other weights than those of model_name '{folder}'"):
        fit(policy(str(tmp_path / "other")), tmp_path, 2, tmp_path / "last.ckpt")


def test_adapters_go_back_to_where_the_fit_began(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = policy(folder)
    before = {name: value.clone() for name, value in module.policy.state_dict().items()}
    fit(module, tmp_path, 1)
    assert any(not torch.equal(value, before[name]) for name, value in module.policy.state_dict().items())
    for load in ("load_model", "load_stored"):
        monkeypatch.delattr(f"mstar.modules.backbone_module.{load}")  # the model is not loaded again
    module.restore_initial_weights()
    assert all(torch.equal(value, before[name]) for name, value in module.policy.state_dict().items())


def test_a_connector_is_trained_kept_resumed_exported_and_brought_back(folder: str, tmp_path: Path) -> None:
    def start() -> PolicyModule:
        return policy(folder, lora=LoraSettings(rank=4, modules_to_save=("projector",)))

    name = "model.connector.modality_projection.proj.weight"
    whole = start()
    before = {key: value.clone() for key, value in whole.policy.state_dict().items()}
    fit(whole, tmp_path, 2)
    fit(start(), tmp_path, 1).save_checkpoint(tmp_path / "half.ckpt")
    held = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    assert {key for key in held if ".lora_" not in key} == {f"model.{name}"}
    resumed = start()
    fit(resumed, tmp_path, 2, tmp_path / "half.ckpt").save_checkpoint(tmp_path / "last.ckpt")
    after = whole.policy.state_dict()
    assert all(torch.equal(value, resumed.policy.state_dict()[key]) for key, value in after.items())
    assert not torch.equal(after[name], before[name])
    assert export(tmp_path / "last.ckpt", tmp_path / "exported") == 0
    assert torch.equal(load_model(str(tmp_path / "exported")).state_dict()[name], after[name])
    whole.restore_initial_weights()
    assert all(torch.equal(value, before[key]) for key, value in whole.policy.state_dict().items())


def test_the_parts_are_a_list_in_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["fit", "--config", "tiny/warmup.yaml", "--model.lora"]
    with pytest.raises(SystemExit) as end:
        main([*given, "{rank: 4, modules_to_save: [projector, vision]}", "--print_config"])
    assert end.value.code == 0
    assert "- projector\n" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main([*given, "{modules_to_save: [language]}", "--print_config"])
    assert end.value.code != 0
    assert "modules_to_save" in capsys.readouterr().err


def test_a_checkpoint_from_before_a_setting_goes_on(folder: str, tmp_path: Path) -> None:
    fit(policy(folder), tmp_path, 1).save_checkpoint(tmp_path / "last.ckpt")
    old = torch.load(tmp_path / "last.ckpt", weights_only=True)
    del old["mstar"]["lora"]["modules_to_save"]
    torch.save(old, tmp_path / "old.ckpt")
    assert fit(policy(folder), tmp_path, 2, tmp_path / "old.ckpt").current_epoch == 2


def test_gradient_checkpointing_recomputes_and_gives_the_same_gradients(folder: str) -> None:
    rows = [SEED[i] for i in range(4)]

    def gradients(checkpointing: bool) -> tuple[list[torch.Tensor], int]:
        lora = LoraSettings(rank=4, target="all")
        module = policy(folder, lora=lora, freeze=["vision"], gradient_checkpointing=checkpointing)
        passes: list[int] = []
        untyped: Any = module.policy
        untyped.model.text_model.layers[1].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
        module.loss(module.renderer.response_inputs(rows, [row.rationale or "" for row in rows])).backward()
        return [p.grad for p in module.parameters() if p.grad is not None], len(passes)

    plain, once = gradients(False)
    checkpointed, twice = gradients(True)
    assert (once, twice) == (1, 2)
    assert len(plain) == len(checkpointed) > 42
    for a, b in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


@pytest.fixture
def labels(write_labels: Callable[[int], str]) -> str:
    return write_labels(8)


def test_an_mprm_with_adapters(labels: str, folder: str, tmp_path: Path) -> None:
    def run(epochs: int, checkpoint: Path | None = None) -> tuple[MPRMModule, Trainer]:
        seed_everything(0)
        module = MPRMModule(folder, lr=1e-2, head_size=8, lora=LoraSettings(rank=4))
        data = StepLabelDataModule(labels, TinyDice("annotation", 8), batch_size=8, validation_share=0.0)
        made = trainer(tmp_path, max_epochs=epochs, num_sanity_val_steps=0)
        made.fit(module, data, ckpt_path=checkpoint)
        return module, made

    whole, _ = run(2)
    _, stopped = run(1)
    stopped.save_checkpoint(tmp_path / "half.ckpt")
    held = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    assert {"lora" if ".lora_" in name else name.split(".")[1] for name in held} == {"lora", "head"}
    resumed, again = run(2, tmp_path / "half.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name

    again.save_checkpoint(tmp_path / "last.ckpt")
    assert export(tmp_path / "last.ckpt", tmp_path / "mprm") == 0
    prompts = list(TinyDice("validation", 3))
    texts = [list(prompt.reference_responses) for prompt in prompts]
    scorer, renderer = StepScorer.load(tmp_path / "mprm")
    loaded = scorer.score_inputs(scorer.render(renderer, prompts, texts))
    wanted = whole.scorer.eval().score_inputs(whole.scorer.render(whole.renderer, prompts, texts))
    for a, b in zip(loaded, wanted, strict=True):
        assert a == pytest.approx(b, abs=1e-4)


def test_an_mprm_in_4_bits_is_exported_on_its_own_weights(folder: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    module = MPRMModule(folder, lora=LoraSettings(rank=4, quantization="nf4"))
    module.configure_model()
    module.export(tmp_path / "mprm")
    own = load_model(folder).state_dict()
    # New adapters compute nothing yet.
    assert all(torch.equal(value, own[n]) for n, value in load_model(str(tmp_path / "mprm")).state_dict().items())


def test_a_whole_rest_em_run_with_adapters(evolve: Any) -> None:
    root = evolve(
        "--model.lora", "{rank: 4, target: attention}", "--rollout.method", "rest_em", "--rollout.interval", "1.0"
    )  # fmt: skip
    checkpoint = torch.load(root / "checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["mstar"]["lora"]["target"] == "attention"
    assert len(checkpoint["state_dict"]) == 3 * 4 * 2
    base, exported = load_model(str(evolve.policy)).state_dict(), load_model(str(root / "policy")).state_dict()
    changed = {name for name, value in exported.items() if not torch.equal(value, base[name])}
    assert changed
    assert all(".self_attn." in name for name in changed)


@pytest.fixture
def quantised(folder: str) -> Callable[[], PolicyModule]:
    """Makes policies with adapters on 4-bit weights."""
    pytest.importorskip("bitsandbytes")
    return lambda: policy(folder, lora=LoraSettings(rank=4, quantization="nf4"), gradient_checkpointing=True)


def test_adapters_on_weights_in_4_bits(quantised: Callable[[], PolicyModule], folder: str, tmp_path: Path) -> None:
    module = quantised()
    before = {n: value.clone() for n, value in module.policy.state_dict().items() if ".lora_" in n}
    layers = [m for m in module.policy.modules() if type(m).__module__.startswith("bitsandbytes")]
    assert len(layers) == 21
    rows = [SEED[i] for i in range(4)]
    batch = module.renderer.response_inputs(rows, [row.rationale or "" for row in rows])
    first = module.loss(batch).item()
    run = fit(module, tmp_path, 1)
    run.save_checkpoint(tmp_path / "last.ckpt")
    trained = module.loss(batch)
    assert trained.item() < first - 0.2

    # What computes beside the trainer has those of 4 bits, unpacked, with the adapters on top.
    beside = policy(folder, lora=None)
    beside.policy.load_state_dict(merged_state(module.policy))
    assert beside.loss(batch).item() == pytest.approx(trained.item(), abs=1e-4)

    again = quantised()
    again.configure_model()
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    again.on_load_checkpoint(checkpoint)
    again.load_state_dict(checkpoint["state_dict"], strict=again.strict_loading)
    assert again.loss(batch).item() == trained.item()
    again.restore_initial_weights()
    assert all(torch.equal(again.policy.state_dict()[n], value) for n, value in before.items())


def test_the_next_stage_in_4_bits_has_what_this_one_trained(folder: str, tmp_path: Path) -> None:
    from peft import PeftModel

    pytest.importorskip("bitsandbytes")

    def quantised(name: str) -> PolicyModule:
        return policy(name, lr=1e-3, lora=LoraSettings(rank=4, quantization="nf4"))

    base = tmp_path / "base"
    shutil.copytree(folder, base)
    module = quantised(str(base))
    rows = [SEED[i] for i in range(4)]
    batch = module.renderer.response_inputs(rows, [row.rationale or "" for row in rows])
    first = module.loss(batch).item()
    fit(module, tmp_path, 1)
    trained = module.loss(batch).item()
    assert trained < first - 0.5
    module.export(tmp_path / "exported")
    following = quantised(str(tmp_path / "exported"))
    following.configure_model()
    assert following.loss(batch).item() == pytest.approx(trained, abs=0.1)
    assert "quantization" not in (tmp_path / "exported/config.json").read_text()

    # It is what the adapters alone make of the base model.
    exported = load_model(str(tmp_path / "exported")).state_dict()
    module.export(tmp_path / "adapter", adapter=True)
    merged: Any = PeftModel.from_pretrained(load_model(folder), str(tmp_path / "adapter"))
    for name, value in merged.merge_and_unload().state_dict().items():
        torch.testing.assert_close(value, exported[name], rtol=0, atol=1e-6)

    shutil.copytree(tmp_path / "exported", base, dirs_exist_ok=True)
    with pytest.raises(ConfigError, match="model_name has other weights by now than those that were loaded in 4 bits"):
        module.export(tmp_path / "late")
