"""The policy module: its loss, what is trained, schedules, checkpoints and the exported folder."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.plugins import HalfPrecision

from mstar.datamodules import PolicyDataModule
from mstar.errors import ConfigError, DataError
from mstar.generation import Request, Sample, TransformersEngine
from mstar.grading import AnswerGrader
from mstar.models.backbone import EMBEDDED_MODEL
from mstar.models.export import save_model
from mstar.models.families import FreezablePart
from mstar.modules import PolicyModule, WarmupSchedule
from mstar.modules.answering import greedy_responses
from mstar.prompts import TinyDice
from mstar.types import AnswerType, Prompt, ScoredResponse

SEED = TinyDice("seed", 64)


@pytest.fixture(scope="module")
def tiny_folder(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The embedded model as a folder."""
    folder = tmp_path_factory.mktemp("tiny")
    save_model(tiny.model, tiny.renderer, folder)
    return str(folder)


@pytest.fixture(scope="module")
def trained_folder(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The briefly trained model as a folder."""
    folder = tmp_path_factory.mktemp("trained")
    save_model(trained.model, trained.renderer, folder)
    return str(folder)


def short_engine(**settings: Any) -> TransformersEngine:
    return TransformersEngine(24, progress=False, **settings)


def make(folder: str, **settings: Any) -> PolicyModule:
    """A policy with its model loaded."""
    module = PolicyModule(folder, **{"lr": 1e-3, "engine": short_engine(), **settings})
    module.configure_model()
    return module


def trainer(root: Path, **settings: Any) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(
        **{"accelerator": "cpu", "logger": False, "max_epochs": -1, "default_root_dir": root, **quiet, **settings}
    )


def batch_of(module: PolicyModule, count: int = 6) -> Any:
    prompts = [SEED[i] for i in range(count)]
    return module.renderer.response_inputs(prompts, [prompt.rationale or "" for prompt in prompts])


@pytest.mark.parametrize("name", ["tiny", "split"])
def test_the_loss_is_that_of_transformers(name: str, tiny_folder: str, split_folder: Path) -> None:
    module = make(tiny_folder if name == "tiny" else str(split_folder))
    prompts = [SEED[i] for i in range(4)]
    batch = module.renderer.response_inputs(prompts, ["red = 4\nAnswer: 7", "no", prompts[2].rationale or "", ""])
    assert len(set((batch.labels_BT != -100).sum(1).tolist())) == 4
    wanted = module.model(
        input_ids=batch.inputs.ids_BT,
        attention_mask=batch.inputs.mask_BT,
        labels=batch.labels_BT,
        **batch.inputs.extras,
    ).loss
    assert module.loss(batch).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_prompt_and_padding_tokens_have_no_loss(tiny_folder: str) -> None:
    module = make(tiny_folder)
    batch = batch_of(module)
    logits_of_rows = []

    def keep(_: Any, arguments: Any, output: torch.Tensor) -> None:
        logits_of_rows.append(output.shape[0])

    module.model.get_output_embeddings().register_forward_hook(keep)
    module.loss(batch)
    assert logits_of_rows == [int((batch.labels_BT != -100).sum())]


@pytest.mark.parametrize("parts", [["vision"], ["vision", "projector"], ["language"]])
def test_frozen_parts_are_not_trained(tiny_folder: str, parts: list[FreezablePart]) -> None:
    module = make(tiny_folder, freeze=parts)
    names = {"vision": ".vision_model.", "projector": ".connector.", "language": ".text_model."}
    frozen = {
        id(p) for name, p in module.named_parameters() if any(names[part] in name for part in parts)
    } | ({id(module.model.lm_head.weight)} if "language" in parts else set())  # fmt: skip
    module.loss(batch_of(module)).backward()
    for name, parameter in module.named_parameters():
        if id(parameter) in frozen:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            # Position 0 is the one row of the vision tower's position table that a square picture may not use.
            assert parameter.grad.abs().sum() > 0, name
    optimizer: Any = module.configure_optimizers()
    inside = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert inside == {id(p) for p in module.parameters()} - frozen
    assert frozen


def test_a_part_that_cannot_be_frozen(tiny_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mstar.models.families.Family.vision", frozenset({"no_such_tower"}))
    with pytest.raises(ConfigError, match="has no part named 'vision'; remove it from 'freeze'"):
        make(tiny_folder, freeze=["vision"])
    monkeypatch.undo()
    module = make(tiny_folder, freeze=["vision", "projector", "language"])
    with pytest.raises(ConfigError, match="every parameter of the model is frozen"):
        module.configure_optimizers()


def test_a_loaded_model_is_trained_in_training_mode(tiny_folder: str) -> None:
    """Dropout and gradient checkpointing are off in the evaluation mode in which Transformers loads models."""
    assert make(tiny_folder).model.training


def test_gradient_checkpointing_recomputes_and_changes_nothing(tiny_folder: str) -> None:
    def gradients(checkpointing: bool) -> tuple[list[torch.Tensor], int]:
        module = make(tiny_folder, gradient_checkpointing=checkpointing)
        passes = []
        module.model.model.text_model.layers[1].mlp.register_forward_pre_hook(lambda *_: passes.append(1))
        module.loss(batch_of(module)).backward()
        return [p.grad for p in module.parameters() if p.grad is not None], len(passes)

    plain, passes = gradients(False)
    checkpointed, again = gradients(True)
    assert (passes, again) == (1, 2)
    assert len(plain) == len(checkpointed)
    for a, b in zip(plain, checkpointed, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_a_fit_lowers_the_loss_and_logs(tiny_folder: str, tmp_path: Path) -> None:
    module = PolicyModule(
        tiny_folder, lr=2e-3, lr_scheduler=partial(WarmupSchedule, warmup_steps=10, drop_at=12), engine=short_engine()
    )
    fit = trainer(tmp_path, max_steps=15, log_every_n_steps=1, gradient_clip_val=1.0)
    with torch.no_grad():
        before = module.policy and module.loss(batch_of(module, 16)).item()
    fit.fit(module, datamodule=PolicyDataModule(SEED, batch_size=8))
    with torch.no_grad():
        after = module.loss(batch_of(module, 16)).item()
    assert after < 0.6 * before
    # The last of 15 steps, after the drop.
    assert fit.logged_metrics["train/lr"].item() == pytest.approx(1e-3)
    assert fit.logged_metrics["train/loss"].item() < before


def test_the_logged_loss_is_that_of_the_whole_step(tiny_folder: str, tmp_path: Path) -> None:
    """The batches of a step are sorted by length: the last one's own loss would be that of the shortest rows."""

    def logged(batch_size: int, batches: int) -> float:
        module = PolicyModule(tiny_folder, lr=1e-30, engine=short_engine())
        fit = trainer(tmp_path, max_steps=2, log_every_n_steps=1, accumulate_grad_batches=batches)
        fit.fit(module, datamodule=PolicyDataModule(SEED, batch_size=batch_size))
        return fit.logged_metrics["train/loss"].item()

    assert logged(2, 4) == pytest.approx(logged(8, 1), rel=1e-5)


def test_a_converted_policy_keeps_its_rotary_frequencies() -> None:
    """As a model that Transformers loads in bfloat16 has them."""
    module = make(EMBEDDED_MODEL)
    before = {name: value.clone() for name, value in module.named_buffers() if name.endswith("inv_freq")}
    assert before
    HalfPrecision("bf16-true").convert_module(module)
    after = dict(module.named_buffers())
    assert next(module.parameters()).dtype == torch.bfloat16
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(("dtype", "precision"), [("bfloat16", "bf16-true"), ("float32", "bf16-mixed")])
def test_a_fit_in_bfloat16(tiny_folder: str, tmp_path: Path, dtype: str, precision: str) -> None:
    module = PolicyModule(tiny_folder, lr=2e-3, dtype=dtype, engine=short_engine())
    with torch.no_grad():
        before = module.policy and module.loss(batch_of(module, 16)).item()
    trainer(tmp_path, max_steps=10, precision=precision).fit(module, datamodule=PolicyDataModule(SEED, batch_size=8))
    with torch.no_grad():
        assert module.loss(batch_of(module, 16)).item() < before - 1
    assert {str(p.dtype) for p in module.parameters()} == {f"torch.{dtype}"}


class Rates(Callback):
    """Remembers the learning rate of every optimizer step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.seen.append(optimizer.param_groups[0]["lr"])


def test_the_schedule_does_not_depend_on_the_length_of_an_epoch(tiny_folder: str, tmp_path: Path) -> None:
    def fit(size: int, accumulate: int) -> list[float]:
        rates = Rates()
        schedule = partial(WarmupSchedule, warmup_steps=4, decay_until=8)
        module = PolicyModule(tiny_folder, lr=1.0, optimizer=torch.optim.SGD, lr_scheduler=schedule)
        trainer(
            tmp_path, max_steps=9, callbacks=[rates], accumulate_grad_batches=accumulate, gradient_clip_val=1e-3
        ).fit(module, datamodule=PolicyDataModule(TinyDice("seed", size), batch_size=2))
        return rates.seen

    expected = [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0]
    assert fit(4, 1) == pytest.approx(expected)
    assert fit(14, 1) == pytest.approx(expected)
    assert fit(8, 2) == pytest.approx(expected)


def test_a_checkpoint_is_plain_data_and_goes_on(tiny_folder: str, tmp_path: Path) -> None:
    schedule = partial(WarmupSchedule, warmup_steps=4)

    def module() -> PolicyModule:
        return PolicyModule(tiny_folder, lr=1e-3, lr_scheduler=schedule)

    data = {"datamodule": PolicyDataModule(SEED, batch_size=8)}
    half = trainer(tmp_path, max_epochs=1, limit_train_batches=4)
    half.fit(module(), **data)
    path = tmp_path / "half.ckpt"
    half.save_checkpoint(path)
    saved = torch.load(path, weights_only=True)
    assert saved["mstar"] == {"kind": "policy", "model_name": tiny_folder, "dtype": "float32"}
    assert saved["global_step"] == 4
    resumed, rates = module(), Rates()
    trainer(tmp_path, max_steps=6, callbacks=[rates]).fit(resumed, ckpt_path=path, **data)
    assert rates.seen == pytest.approx([1e-3, 1e-3])
    assert any(not torch.equal(v, saved["state_dict"][n]) for n, v in resumed.state_dict().items())


@pytest.mark.parametrize("name", ["embedded", "folder"])
def test_the_initial_weights_can_be_restored(name: str, tiny_folder: str) -> None:
    module = make(tiny_folder if name == "folder" else EMBEDDED_MODEL, freeze=["vision"])
    start = copy.deepcopy(module.state_dict())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    torch.manual_seed(99)
    module.restore_initial_weights()
    assert all(torch.equal(value, start[key]) for key, value in module.state_dict().items())
    assert not module.model.model.vision_model.embeddings.patch_embedding.weight.requires_grad


def test_the_exported_folder_gives_the_engines_greedy_answers(trained_folder: str, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    module = make(trained_folder)
    prompts = list(TinyDice("test", 4))
    engine = TransformersEngine(24, progress=False)
    engine.start(module.policy, module.renderer)
    answers = [row[0] for row in engine.generate([Request(p, (Sample(0, 0.0, 0),)) for p in prompts])]
    assert all(answer.finished for answer in answers)

    module.export(tmp_path / "policy")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "policy")
    processor = AutoProcessor.from_pretrained(tmp_path / "policy")
    for prompt, answer in zip(prompts, answers, strict=True):
        content = [{"type": "image"}, {"type": "text", "text": prompt.question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(text=text, images=[prompt.images[0].load()], return_tensors="pt")
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=24)[0, inputs["input_ids"].shape[1] :]
        assert processor.decode(tokens, skip_special_tokens=True) == answer.text
    assert {path.suffix for path in (tmp_path / "policy").iterdir()} <= {".json", ".safetensors", ".jinja"}


class Outputs(Callback):
    """Remembers what ``predict_step`` returned."""

    def __init__(self) -> None:
        self.seen: list[ScoredResponse] = []

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, loader: int = 0
    ) -> None:
        self.seen += outputs


def test_validate_test_and_predict(trained_folder: str, tmp_path: Path) -> None:
    module = make(trained_folder, engine=short_engine(batch_size=3))
    source = TinyDice("test", 40)
    engine = TransformersEngine(24, progress=False)
    engine.start(module.policy, module.renderer)
    scored = greedy_responses(engine, list(source), AnswerGrader())
    accuracy = sum(s.verdict.correct for s in scored) / 40
    chains = sum(bool(s.chain_correct) for s in scored) / 40
    assert accuracy > 0.1
    data = PolicyDataModule(SEED, validation=source, test=source, eval_batch_size=16)
    run = trainer(tmp_path)
    (tested,) = run.test(module, datamodule=data, verbose=False)
    assert tested == {"test/accuracy": pytest.approx(accuracy), "test/chain_accuracy": pytest.approx(chains)}
    (validated,) = run.validate(module, datamodule=data, verbose=False)
    assert validated == {"val/accuracy": pytest.approx(accuracy), "val/chain_accuracy": pytest.approx(chains)}
    outputs = Outputs()
    trainer(tmp_path, callbacks=[outputs]).predict(module, datamodule=data, return_predictions=False)
    assert [(s.response.text, s.verdict) for s in outputs.seen] == [(s.response.text, s.verdict) for s in scored]


class Unreadable(TinyDice):
    """Every second gold answer, or all of them, is no number."""

    def __init__(self, period: int) -> None:
        super().__init__("test", 4)
        self.period = period

    def __getitem__(self, index: int) -> Prompt:
        prompt = super().__getitem__(index)
        return prompt if index % self.period else replace(prompt, answer="many", answer_type=AnswerType.INTEGER)


def test_golds_that_cannot_be_graded_are_announced_before_any_answer(
    tiny_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With most of them, nothing starts: its zeros would say nothing of the policy."""
    none, half = (PolicyDataModule(SEED, validation=source, test=source) for source in map(Unreadable, (1, 2)))
    policy = make(tiny_folder)
    with pytest.raises(DataError, match=r"data\.validation: 4 of 4 gold answers cannot be graded"):
        trainer(tmp_path).validate(policy, none)
    with pytest.raises(DataError, match=r"data\.test: 4 of 4 gold answers cannot be graded"):
        trainer(tmp_path).test(policy, none)
    with pytest.raises(DataError, match=r"data\.validation: 4 of 4 gold answers cannot be graded"):
        trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0).fit(policy, none)
    assert policy.trainer.global_step == 0
    trainer(tmp_path).predict(policy, none, return_predictions=False)
    trainer(tmp_path).validate(policy, half, verbose=False)
    assert "data.validation: 2 of 4 gold answers cannot be graded" in caplog.text


def test_training_data_without_rationales(tiny_folder: str, tmp_path: Path) -> None:
    module = PolicyModule(tiny_folder)
    with pytest.raises(DataError, match=r"prompt 'pool-0-\d' \(row \d\) has no rationale to imitate: train on data"):
        trainer(tmp_path, max_steps=1).fit(module, datamodule=PolicyDataModule(TinyDice("pool", 8), batch_size=2))


def test_the_longest_response_stands_once(tiny_folder: str) -> None:
    short = PolicyModule(tiny_folder, max_new_tokens=7)
    assert short.engine.max_new_tokens == 7
    short.use_engine(TransformersEngine(7), "rollout.engine")
    with pytest.raises(ConfigError, match=r"model.max_new_tokens is 7, but rollout.engine.max_new_tokens is 9"):
        short.use_engine(TransformersEngine(9), "rollout.engine")
    with pytest.raises(ConfigError, match=r"but model.engine.max_new_tokens is 8: leave the first out"):
        PolicyModule(tiny_folder, engine=TransformersEngine(8), max_new_tokens=7)


@pytest.mark.parametrize("use", ["validate", "test", "predict"])
def test_an_engine_of_several_processes_does_not_answer_each_ones_own_prompts(
    use: str, tiny_folder: str, tmp_path: Path
) -> None:
    engine = short_engine()
    engine.group_size = 2
    module = PolicyModule(tiny_folder, engine=engine)
    data = PolicyDataModule(SEED, TinyDice("test", 3), test=TinyDice("test", 3), batch_size=4)
    with pytest.raises(ConfigError, match=r"model.engine.tensor_parallel_size is 2, but validate, test and predict"):
        getattr(trainer(tmp_path), use)(module, datamodule=data)


def test_a_policy_that_nothing_has_loaded_is_exported(tiny_folder: str, tmp_path: Path) -> None:
    PolicyModule(tiny_folder).export(tmp_path / "out")
    assert (tmp_path / "out/model.safetensors").read_bytes()


def test_a_callback_that_would_average_nothing_is_refused_in_every_fit(tiny_folder: str, tmp_path: Path) -> None:
    """And whoever made the trainer."""
    averaging = StochasticWeightAveraging(swa_lrs=1e-3)
    with pytest.raises(ConfigError, match=r"which averages before the model is loaded: take EMAWeightAveraging"):
        trainer(tmp_path, callbacks=[averaging]).fit(PolicyModule(tiny_folder), datamodule=PolicyDataModule(SEED))
