"""The MPRM's settings and metrics by hand, and real fits on the embedded model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything

from mstar.annotation.label_table import load_step_labels
from mstar.datamodules.step_label_batches import collate_step_labels
from mstar.datamodules.step_labels import StepLabelDataModule
from mstar.errors import ConfigError
from mstar.models.backbone import EMBEDDED_MODEL
from mstar.models.step_head import StepLogits
from mstar.models.step_scorer import StepScorer
from mstar.modules.mprm import MPRMModule, validation_metrics
from mstar.prompts import TinyDice
from mstar.rewards import MPRM
from mstar.storage import write_step_labels
from tests.modules.by_hand import softplus


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_the_losses_leave_out_steps_without_a_label(kind: Any) -> None:
    module = MPRMModule("unused", labels=kind)
    known, rows = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0, 0, 1])
    whole = SimpleNamespace(soft_N=known, hard_N=known, group_B=torch.tensor([0, 0]), labelled_N=None)
    # The lowest logit of row 1 is that of a step that is not labelled.
    holes = torch.tensor([1.0, 0.0, 1.0, math.nan])
    part = SimpleNamespace(soft_N=holes, hard_N=holes, group_B=whole.group_B, labelled_N=~holes.isnan())
    expected = module.losses(StepLogits(torch.tensor([2.0, -1.0, 0.5]), rows), whole)  # type: ignore[arg-type]
    steps = StepLogits(torch.tensor([2.0, -1.0, 0.5, -9.0]), torch.tensor([0, 0, 1, 1]))
    assert module.losses(steps, part) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(
    ("kind", "margin", "compared"),
    [("soft", 0.6, True), ("soft", 0.7, False), ("hard", 0.7, True), ("hard", 1.0, False)],
)
def test_the_settings_decide_what_is_learned(
    kind: Any, margin: float, compared: bool, balanced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = MPRMModule("unused", labels=kind, pairwise_margin=margin, pairwise_weight=2.0)
    module.class_weights = (0.75, 1.5) if balanced else None
    logits = [2.0, -1.0, 0.5]
    steps = StepLogits(torch.tensor(logits), torch.tensor([0, 0, 1]))
    # The mean labels of the two responses differ by 0.625 (soft) and by 1 (hard); the lowest logits are -1 and 0.5.
    labels = {"soft": [1.0, 0.75, 0.25], "hard": [1.0, 1.0, 0.0]}
    batch: Any = SimpleNamespace(
        soft_N=torch.tensor(labels["soft"]),
        hard_N=torch.tensor(labels["hard"]),
        group_B=torch.tensor([7, 7]),
        labelled_N=None,
        counts=(3, int(compared)),
        means=(3.0, float(compared)),
    )
    right = [y * softplus(-x) for x, y in zip(logits, labels[kind], strict=True)]
    wrong = [(1 - y) * softplus(x) for x, y in zip(logits, labels[kind], strict=True)]
    cross_entropy = (1.5 * sum(right) + 0.75 * sum(wrong) if balanced else sum(right + wrong)) / 3
    pairwise = softplus(0.5 - -1.0) if compared else 0.0
    assert [float(loss) for loss in module.losses(steps, batch)] == pytest.approx([cross_entropy, pairwise])

    monkeypatch.setattr(module, "forward", lambda _: steps)
    monkeypatch.setattr(module, "log_training", lambda *_, **__: None)
    monkeypatch.setattr(MPRMModule, "trainer", SimpleNamespace(world_size=1))
    assert float(module.training_step(batch, 0)) == pytest.approx(cross_entropy + 2.0 * pairwise)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_classes_are_balanced_over_all_labels_whatever_the_batch(labels: str, kind: Any) -> None:
    module, _ = fit(labels, epochs=1, labels=kind, class_balance=True)
    assert module.class_weights is not None
    wrong, right = module.class_weights
    rows = load_step_labels(Path(labels))
    shares = [share if kind == "soft" else share > 0 for row in rows for share in row.soft_labels]
    assert wrong != pytest.approx(right)
    assert right * sum(shares) == pytest.approx(len(shares) / 2)
    assert wrong * (len(shares) - sum(shares)) == pytest.approx(len(shares) / 2)


def test_classes_of_unknown_data_cannot_be_balanced() -> None:
    module = MPRMModule("unused", class_balance=True)
    module.trainer = Trainer(accelerator="cpu", logger=False)
    with pytest.raises(ConfigError, match="class_balance counts the labels of a StepLabelDataModule"):
        module.setup("validate")


@pytest.mark.parametrize("weights", [None, (0.75, 1.5)])
def test_a_batch_without_any_label_has_nothing_to_learn_from(weights: Any) -> None:
    module = MPRMModule("unused")
    module.class_weights = weights
    logits = torch.tensor([2.0, -1.0], requires_grad=True)
    nothing = torch.tensor([math.nan, math.nan])
    batch = SimpleNamespace(soft_N=nothing, group_B=torch.tensor([0, 0]), labelled_N=torch.tensor([False, False]))
    cross_entropy, pairwise = module.losses(StepLogits(logits, torch.tensor([0, 1])), batch)  # type: ignore[arg-type]
    (cross_entropy + pairwise).backward()
    assert (cross_entropy.item(), pairwise.item()) == (0, 0)
    assert logits.grad is not None
    assert logits.grad.tolist() == [0, 0]


@pytest.mark.parametrize(("kind", "accuracy", "error"), [("soft", 0.5, 0.275), ("hard", 1.0, 0.1)])
def test_steps_are_measured_by_the_labels_that_are_learned(
    kind: Any, accuracy: float, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = MPRMModule("unused", labels=kind)
    # A quarter of the second step's continuations are right; the third has none.
    batch: Any = SimpleNamespace(
        soft_N=torch.tensor([1.0, 0.25, math.nan]),
        hard_N=torch.tensor([1.0, 1.0, math.nan]),
        labelled_N=torch.tensor([True, True, False]),
        group_B=torch.tensor([7, 7]),
        correct_B=torch.tensor([True, False]),
        chain_B=torch.tensor([-1, -1]),
        logprobs=[-1.0, -1.0],
        counts=(2, 0),
    )
    probabilities = torch.tensor([0.9, 0.9, 0.1])
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "forward", lambda _: StepLogits(probabilities.logit(), torch.tensor([0, 1, 1])))
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: float(value)}))
    monkeypatch.setattr("mstar.modules.mprm.repeats", lambda *_: False)
    monkeypatch.setattr(MPRMModule, "trainer", None)
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    assert logged["mprm/step_accuracy"] == accuracy
    assert logged["mprm/ece"] == pytest.approx(error)


def test_validation_metrics_by_hand() -> None:
    # Two prompts. Prompt 0: a right chain, a lucky one and a wrong one; prompt 1: answers only, chains unknown.
    measured: dict[str, list[Any]] = {
        "probability": [0.9, 0.4, 0.6, 0.2],
        "label": [1.0, 0.0, 0.25, 0.75],
        "score": [0.0, 1.0, -1.0, 2.0, 3.0],
        "group": [0, 0, 0, 1, 1],
        "correct": [True, True, False, True, False],
        "chain": [1, 0, 0, -1, -1],
        "logprob": [-1.0, -2.0, -3.0, -5.0, -6.0],
    }
    metrics = validation_metrics(measured)
    assert metrics["mprm/step_accuracy"] == 0.5
    # Truth: right, wrong, wrong, right, wrong. Prompt 0: 1 of 2 pairs, prompt 1: 0 of 1.
    assert metrics["mprm/auc_within"] == pytest.approx((0.5 + 0.0) / 2)
    assert metrics["mprm/auc_within_correct"] == 0.0
    assert metrics["mprm/likelihood_auc_within"] == 1.0
    assert metrics["mprm/likelihood_auc_within_correct"] == 1.0
    # Pooled, right 0.0 and 2.0 against wrong 1.0, -1.0, 3.0: 1 + 2 of 6 pairs.
    assert metrics["mprm/auc"] == pytest.approx(3 / 6)
    # A step that is not labelled is neither right nor wrong.
    steps = {"probability": [*measured["probability"], 0.9], "label": [*measured["label"], math.nan]}
    assert validation_metrics(measured | steps) == metrics
    assert not {"mprm/step_accuracy", "mprm/ece"} & {*validation_metrics(measured | {"label": [math.nan] * 4})}
    # Of likelihoods that are not known nothing is said.
    unknown = validation_metrics(measured | {"logprob": [-1.0, math.nan, -3.0, -5.0, -6.0]})
    assert unknown == {name: value for name, value in metrics.items() if "likelihood" not in name}


def test_metrics_without_both_classes_are_left_out() -> None:
    one = {"score": [1.0], "group": [0], "correct": [True], "chain": [-1], "logprob": [-1.0]}
    assert set(validation_metrics({"probability": [0.5], "label": [1.0], **one})) == {"mprm/step_accuracy", "mprm/ece"}


@pytest.fixture
def labels(write_labels: Callable[[int], str]) -> str:
    return write_labels(12)


def fit(folder: str, epochs: int = 2, **changes: Any) -> tuple[MPRMModule, Trainer]:
    seed_everything(0)
    module = MPRMModule(EMBEDDED_MODEL, **{"lr": 2e-3, "head_size": 8, **changes})
    data = StepLabelDataModule(folder, TinyDice("annotation", 12), batch_size=8, validation_labels=folder)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    trainer.fit(module, data)
    return module, trainer


def test_a_fit_learns_to_tell_the_misread_step(labels: str) -> None:
    _, trainer = fit(labels, epochs=12)
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["mprm/auc_within"] == 1.0
    assert logged["mprm/step_accuracy"] > 0.8
    assert {"train/loss", "train/lr", "val/loss", "mprm/auc", "mprm/ece"} <= set(logged)
    # Only one response to a prompt is right, so there is nothing to rank among the right ones.
    assert "mprm/auc_within_correct" not in logged


def test_a_batch_that_only_makes_up_the_number_is_not_measured(labels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3 batches, two processes get 2 each; here one process goes through both shares, one after the other."""
    measured, logged, losses = [], [], []
    monkeypatch.setattr(
        "mstar.modules.mprm.validation_metrics", lambda found: measured.append(len(found["score"])) or {}
    )
    data = StepLabelDataModule(labels, TinyDice("annotation", 12), batch_size=8, validation_labels=labels)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    make = data.val_dataloader
    for rank in (0, 1):

        def share(rank: int = rank) -> Any:
            loader: Any = make()
            loader.sampler.num_replicas, loader.sampler.rank, loader.sampler.total_size = 2, rank, 4
            loader.sampler.num_samples = 2
            return loader

        monkeypatch.setattr(data, "val_dataloader", share)
        module = MPRMModule(EMBEDDED_MODEL, pairwise_weight=0)
        monkeypatch.setattr(module, "losses", lambda *_: losses.append(1.0 + len(losses)) or (losses[-1], 0))
        logged.append(trainer.validate(module, data, verbose=False)[0]["val/loss"])
    assert measured == [16, 8]
    assert logged == [1.5, 3], "the repeated batch would be the fourth"


def test_an_export_scores_as_what_was_trained(labels: str, tmp_path: Path) -> None:
    module, _ = fit(labels)
    assert not torch.equal(module.scorer.head.output.weight, torch.zeros(1, 8))
    module.export(tmp_path / "mprm")
    groups = [(prompt, prompt.reference_responses) for prompt in TinyDice("validation", 3)]
    trained = MPRM.holding(module.scorer, module.renderer).score_texts(groups)
    assert MPRM.holding(*StepScorer.load(tmp_path / "mprm")).score_texts(groups) == trained


def test_a_checkpoint_is_plain_and_says_how_to_rebuild(labels: str, tmp_path: Path) -> None:
    module, trainer = fit(labels, epochs=1, step_logprob_features=False)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["mstar"] == {
        "kind": "mprm",
        "model_name": EMBEDDED_MODEL,
        "dtype": "float32",
        "step_logprob_features": False,
        "head_size": 8,
    }
    described = dict(checkpoint["mstar"])
    assert described.pop("kind") == "mprm"
    rebuilt = MPRMModule(described["model_name"], step_logprob_features=False, head_size=described["head_size"])
    rebuilt.configure_model()
    rebuilt.load_state_dict(checkpoint["state_dict"])
    assert torch.equal(rebuilt.scorer.head.hidden.weight, module.scorer.head.hidden.weight)


def test_gradient_checkpointing_and_hard_labels_and_frozen_parts_train(labels: str) -> None:
    before = MPRMModule(EMBEDDED_MODEL)
    before.configure_model()
    start = {name: value.clone() for name, value in before.scorer.backbone.state_dict().items()}
    module, _ = fit(labels, epochs=1, labels="hard", gradient_checkpointing=True, freeze=["vision"], class_balance=True)
    changed = {
        name for name, value in module.scorer.backbone.state_dict().items() if not torch.equal(value, start[name])
    }
    assert changed
    assert not any("vision_model" in name for name in changed)
    assert any("text_model.layers.0" in name for name in changed)


@pytest.mark.parametrize("changes", [{"share_prompts": False}, {"gradient_checkpointing": True}])
def test_sharing_prompts_gives_the_same_loss_and_gradients(labels: str, changes: dict[str, bool]) -> None:
    source = TinyDice("annotation", 12)
    rows = load_step_labels(Path(labels))[:7]
    groups = [source.index_of(row.prompt_id) for row in rows]
    losses, gradients = [], []
    for module in (MPRMModule(EMBEDDED_MODEL), MPRMModule(EMBEDDED_MODEL, **changes)):  # type: ignore[arg-type]
        module.configure_model()
        torch.nn.init.normal_(module.scorer.head.output.weight, generator=torch.Generator().manual_seed(0))
        prompts = {number: source[number] for number in groups}
        batch = collate_step_labels(rows, prompts, groups, module.renderer, module.share_prompts)
        cross_entropy, pairwise = module.losses(module(batch), batch)
        (cross_entropy + pairwise).backward()
        losses.append([float(cross_entropy.detach()), float(pairwise.detach())])
        gradients.append({name: value.grad for name, value in module.named_parameters()})
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        assert (gradient is None) == (other is None), name
        assert gradient is None or torch.allclose(gradient, other, atol=1e-5), name


def test_a_step_is_the_same_in_whatever_batches(labels: str) -> None:
    """Of which some have fewer labelled steps, and some no pair."""
    rows = []
    for place, row in enumerate(load_step_labels(Path(labels))):
        total = (4, 4, 0, 0) if place % 8 < 2 else row.num_total
        rows.append(replace(row, num_total=total, num_correct=total if place < 8 else row.num_correct))
    write_step_labels(Path(labels) / "labels-00000.parquet", rows)
    found = []
    for batch_size, batches in ((24, 1), (4, 6)):
        module = MPRMModule(EMBEDDED_MODEL, lr=0.1, head_size=8, optimizer=torch.optim.SGD, pairwise_weight=2.0)
        data = StepLabelDataModule(labels, TinyDice("annotation", 12), batch_size, validation_labels=labels)
        trainer = Trainer(
            max_steps=1, accumulate_grad_batches=batches, accelerator="cpu", logger=False, log_every_n_steps=1,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(module, data)
        found.append((module.state_dict(), {name: float(v) for name, v in trainer.callback_metrics.items()}))
    (whole, logged), (parts, also_logged) = found
    assert logged["train/pairwise_loss"] > 0
    assert also_logged == pytest.approx(logged, rel=1e-4)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, atol=1e-6, rtol=1e-4, msg=name)


def test_the_terms_of_all_processes_count_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    module = MPRMModule("unused")
    strategy = SimpleNamespace(reduce=lambda own, reduce_op: (own + torch.tensor([1.0, 0.0])) / 2)
    monkeypatch.setattr(MPRMModule, "trainer", SimpleNamespace(world_size=2, strategy=strategy))
    batch: Any = SimpleNamespace(counts=(3, 0), means=(3.0, 0.0))
    assert module.shares(batch) == [1.5, 1.0]


def test_the_head_has_its_own_learning_rate(labels: str) -> None:
    module, trainer = fit(labels, epochs=1, lr=1e-5, head_lr=1e-2)
    body, head = trainer.optimizers[0].param_groups
    assert (body["lr"], head["lr"]) == (1e-5, 1e-2)
    assert {id(p) for p in head["params"]} == {id(p) for p in module.scorer.head.parameters()}
    assert {id(p) for p in body["params"]} == {id(p) for p in module.scorer.backbone.parameters()}


@pytest.mark.parametrize(("batch_size", "weight", "warns"), [(1, 0.5, True), (1, 0.0, False), (2, 0.5, False)])
def test_batches_of_one_row_have_no_pairs_which_is_said(
    labels: str, caplog: pytest.LogCaptureFixture, batch_size: int, weight: float, warns: bool
) -> None:
    data = StepLabelDataModule(labels, TinyDice("annotation", 12), batch_size=batch_size, validation_labels=labels)
    module = MPRMModule(EMBEDDED_MODEL, pairwise_weight=weight)
    Trainer(accelerator="cpu", fast_dev_run=True, enable_progress_bar=False).fit(module, data)
    assert ("so that the pairwise term is 0: raise batch_size" in caplog.text) == warns


@pytest.mark.parametrize("name", ["pairwise_weight", "pairwise_margin", "head_lr"])
def test_settings_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        MPRMModule(EMBEDDED_MODEL, **{name: -1.0})
