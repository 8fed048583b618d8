"""The mathematics of learning from every sample, on log-probabilities and on the embedded model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import HalfPrecision
from torch import Tensor

from mstar.datamodules import PolicyDataModule
from mstar.datamodules.step_batches import Credit, StepBatch, StepCollate
from mstar.generation import Request, TransformersEngine, plan_samples
from mstar.models.export import save_model
from mstar.models.lora import LoraSettings
from mstar.modules import PolicyModule
from mstar.modules.policy_losses import Objective, SampleLosses, sample_losses
from mstar.prompts import TinyDice
from mstar.rendering import ResponseInputs
from mstar.selection import Advantages, PolicyGradient, SampleMethod
from mstar.types import Example, Response, ScoredResponse, Verdict, VerdictStatus

POOL = TinyDice("pool", 4)
LENGTHS = (1, 3, 2, 4)
# One right response of four, with the advantages and the weight that Advantages gives them.
RIGHT, WRONG = 3**0.5, -(3**-0.5)


def credit(lengths: tuple[int, ...] = LENGTHS, weight: float = 1.0, old: float | Tensor = -1.0) -> Credit:
    total = sum(lengths)
    return Credit(
        torch.tensor(lengths),
        torch.full((len(lengths),), weight),
        torch.tensor([RIGHT, WRONG, WRONG, WRONG][: len(lengths)]),
        old if isinstance(old, Tensor) else torch.full((total,), old),
    )


def gradient(method: SampleMethod, given: Credit, logprob_N: Tensor, **settings: Any) -> tuple[Tensor, SampleLosses]:
    """The gradient of the summed losses by the log-probabilities."""
    leaf_N = logprob_N.clone().requires_grad_()
    losses = sample_losses(leaf_N, given, Objective(method, PolicyGradient(**settings)))
    (found,) = torch.autograd.grad(losses.loss_N.sum(), leaf_N)
    return found, losses


ON_POLICY = torch.full((sum(LENGTHS),), -1.0)
ADVANTAGES = torch.tensor([RIGHT, *[WRONG] * 9])


@pytest.mark.parametrize(
    ("method", "weight", "settings"),
    [("grpo", 1.0, {}), ("reinforce_rej", 1.0, {}), ("nft", RIGHT, {}), ("nft", RIGHT, {"negative_floor": 0.1})],
)
def test_a_ratio_of_one_gives_the_plain_policy_gradient(
    method: SampleMethod, weight: float, settings: dict[str, Any]
) -> None:
    """And so nft's gradient, with the prompt weight of its paper, equals grpo's on policy."""
    found, losses = gradient(method, credit(weight=weight), ON_POLICY, **settings)
    torch.testing.assert_close(found, -ADVANTAGES)
    assert losses.ratio_N.tolist() == [1.0] * 10
    assert losses.kl_N.tolist() == [0.0] * 10
    assert not losses.clipped_N.any()


def test_what_is_clipped_has_no_gradient_and_the_other_side_keeps_its() -> None:
    shifts = torch.tensor([0.3, 0.3, -0.3, 0.3, -0.3, 0.0, 0.0, 0.0, 0.0, 0.0])
    found, losses = gradient("grpo", credit(), ON_POLICY + shifts)
    ratio = shifts.exp()
    # Right and likelier than 1.28, or wrong and less likely than 0.8: enough was learned of it.
    clipped = torch.tensor([True, False, True, False, True, *[False] * 5])
    assert torch.equal(losses.clipped_N, clipped)
    torch.testing.assert_close(found, torch.where(clipped, 0.0, -ADVANTAGES * ratio))
    wider, _ = gradient("grpo", credit(), ON_POLICY + shifts, clip_high=0.4)
    assert wider[0] == pytest.approx(-RIGHT * ratio[0].item())


def test_nft_models_the_wrong_responses_by_what_is_left_of_the_sampling_policy() -> None:
    """The wrong branch is the log of (1 - p R) / (1 - p), with p the share of right responses."""
    shifts = torch.linspace(-0.5, 0.5, 10)
    _, losses = gradient("nft", credit(weight=RIGHT), ON_POLICY + shifts, negative_floor=0.01)
    share, ratio = 0.25, shifts.exp()
    expected = torch.where(ADVANTAGES > 0, shifts, ((1 - share * ratio) / (1 - share)).log())
    torch.testing.assert_close(losses.loss_N, -RIGHT * expected)
    found, floored = gradient("nft", credit(weight=RIGHT), ON_POLICY + shifts)
    # With a floor of 1 the ratio above 1 is clipped in value, and its gradient passes through.
    assert torch.equal(floored.clipped_N, (shifts > 0) & (ADVANTAGES < 0))
    assert found[9] == pytest.approx(RIGHT * share * ratio[9].item() / (1 - share))


def test_a_sequence_has_the_geometric_mean_of_its_ratios_and_counts_once() -> None:
    shifts = torch.linspace(-0.1, 0.1, 10)
    found, losses = gradient("grpo", credit(), ON_POLICY + shifts, level="sequence", clip_low=1.0, clip_high=9.0)
    rows = torch.split(shifts, LENGTHS)
    means = [row.mean().exp().item() for row in rows]
    assert losses.ratio_N.tolist() == pytest.approx([m for m, n in zip(means, LENGTHS, strict=True) for _ in range(n)])
    wanted = [-a * m for a, m in zip([RIGHT, WRONG, WRONG, WRONG], means, strict=True)]
    assert [row.sum().item() for row in torch.split(losses.loss_N, LENGTHS)] == pytest.approx(wanted)
    assert [row.sum().item() for row in torch.split(found, LENGTHS)] == pytest.approx(wanted)


def test_on_responses_of_one_token_both_levels_are_the_same() -> None:
    given, shifts = credit((1, 1, 1, 1)), torch.tensor([0.5, -0.1, 0.2, -0.5])
    by_token = gradient("grpo", given, shifts - 1)
    by_sequence = gradient("grpo", given, shifts - 1, level="sequence")
    torch.testing.assert_close(by_token[0], by_sequence[0])
    torch.testing.assert_close(by_token[1].loss_N, by_sequence[1].loss_N)


def test_the_divergence_pulls_back_to_the_policy_that_drew() -> None:
    shifts = torch.linspace(-0.5, 0.5, 10)
    plain, _ = gradient("reinforce_rej", credit(), ON_POLICY + shifts)
    held, losses = gradient("reinforce_rej", credit(), ON_POLICY + shifts, kl_weight=0.1)
    torch.testing.assert_close(held - plain, 0.1 * (shifts.exp() - 1))
    assert (losses.kl_N >= 0).all()


# On a model: the samples of its own engine.


def draw(tiny: Any) -> list[Example]:
    """Four samples of each prompt, the first of them taken for right."""
    engine = TransformersEngine(24, progress=False)
    engine.start(tiny.model, tiny.renderer)
    rows = engine.generate([Request(p, plan_samples(0, "t", p.id, 4, 1.0), keep_tokens=True) for p in POOL])

    def scored(response: Response) -> ScoredResponse:
        whole = dataclasses.replace(response, finished=True)
        return ScoredResponse(whole, Verdict(response.sample_index == 0, "1", VerdictStatus.GRADED))

    found = [s for row in rows for s in Advantages("nft").select([scored(r) for r in row], stage="")]
    return [
        Example(s.response.prompt_id, s.response.text, s.weight, s.advantage, s.response.tokens, s.response.logprobs)
        for s in found
    ]


@pytest.fixture(scope="module")
def examples(trained: Any) -> list[Example]:
    return draw(trained)


@pytest.fixture(scope="module")
def folder(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("policy")
    save_model(trained.model, trained.renderer, path)
    return str(path)


def policy(folder: str, **settings: Any) -> PolicyModule:
    """The policy; adapters, if it has any, do something already, so that both of their parts have gradients."""
    module = PolicyModule(folder, engine=TransformersEngine(12, progress=False), **settings)
    module.configure_model()
    for name, parameter in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(parameter, 0.01)
    return module


def imitate(folder: str, examples: list[Example], batches: int = 1, **settings: Any) -> list[Tensor]:
    """The gradient of one optimizer step that imitates, accumulated over its batches."""
    module = policy(folder, **settings)
    credited = any(e.weight != 1 for e in examples)
    collate = StepCollate(module.renderer, len(examples) // batches, batches, sort=True, credited=credited)
    for batch in collate([(POOL[POOL.index_of(e.prompt_id)], e) for e in examples]):
        (module.loss(batch) / batches).backward()
    return [p.grad for p in module.parameters() if p.grad is not None]


def learn(
    folder: str, examples: list[Example], method: SampleMethod, batch_size: int = 16, *, packing: bool = False,
    lora: LoraSettings | None = None, **settings: Any,
) -> tuple[list[Tensor], dict[str, float]]:  # fmt: skip
    """The gradient of one optimizer step, accumulated over its batches as a trainer does, and what was watched."""
    module = policy(folder, packing=packing, lora=lora)
    module.objective = Objective(method, PolicyGradient(**settings))
    batches_per_step = len(examples) // batch_size
    collate = StepCollate(module.renderer, batch_size, batches_per_step, sort=True)
    for batch in collate([(POOL[POOL.index_of(e.prompt_id)], e) for e in examples]):
        assert isinstance(batch, StepBatch)
        (module.loss(batch) / batches_per_step).backward()
    watched = {name: value.item() for name, value in module._watched.items()}
    return [p.grad for p in module.parameters() if p.grad is not None], watched


def assert_equal(one: list[Tensor], other: list[Tensor]) -> None:
    assert sum(float(g.abs().sum()) for g in one) > 1e-2
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-3)


def test_a_default_type_of_16_bits_rounds_no_ratio() -> None:
    """Lightning sets it around a step of trainer.precision bf16-true."""
    given = torch.full((6,), -0.9), credit((3, 3)), Objective("grpo", PolicyGradient(level="sequence"))
    losses = sample_losses(*given)
    with HalfPrecision("bf16-true").forward_context():
        same = sample_losses(*given)
    assert torch.equal(same.ratio_N, losses.ratio_N)
    assert torch.equal(same.loss_N, losses.loss_N)


def test_the_engines_log_probabilities_are_those_of_training(folder: str, examples: list[Example]) -> None:
    """So the first step is on policy, where nft and grpo have one gradient."""
    grpo, watched = learn(folder, examples, "grpo")
    assert watched["ratio"] == pytest.approx(1, abs=1e-4)
    assert watched["kl"] == pytest.approx(0, abs=1e-6)
    assert watched["clipped_fraction"] == 0
    nft, _ = learn(folder, examples, "nft", negative_floor=0.1)
    assert_equal(grpo, nft)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_two_processes_take_the_step_of_one(
    folder: str, examples: list[Example], level: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though one of them has more tokens: a gradient is averaged over processes, and the means are shared before."""
    whole, _ = learn(folder, examples, "grpo", level=level)
    module = policy(folder)
    module.objective = Objective("grpo", PolicyGradient(level=level))
    by_length = sorted(examples, key=lambda e: len(e.tokens))
    pairs = [(POOL[POOL.index_of(e.prompt_id)], e) for e in by_length]
    [one], [other] = (StepCollate(module.renderer, 8, 1, sort=True)(part) for part in (pairs[:8], pairs[8:]))
    assert one.mean_tokens < other.mean_tokens
    mean = torch.tensor([one.mean_tokens + other.mean_tokens, one.mean_rows + other.mean_rows]) / 2
    strategy = SimpleNamespace(reduce=lambda means, reduce_op: mean)
    monkeypatch.setattr(PolicyModule, "trainer", SimpleNamespace(strategy=strategy, world_size=2))
    for batch in (one, other):
        module._share_means(batch)
        (module.loss(batch) / 2).backward()
    assert_equal(whole, [p.grad for p in module.parameters() if p.grad is not None])


def test_what_is_logged_of_an_optimizer_step_is_that_of_all_its_tokens(
    folder: str, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever batches they are, of which the last one has the shortest rows."""
    # The longer a response, the further has the policy come from it.
    off_policy = [dataclasses.replace(e, logprobs=tuple(v - len(e.tokens) / 40 for v in e.logprobs)) for e in examples]
    logged = []
    for batches in (1, 4):
        module = policy(folder)
        module.objective = Objective("grpo", PolicyGradient())
        trainer = SimpleNamespace(
            accumulate_grad_batches=batches, world_size=1, optimizers=[SimpleNamespace(param_groups=[{"lr": 1.0}])]
        )
        monkeypatch.setattr(PolicyModule, "trainer", trainer)
        numbers: dict[str, torch.Tensor] = {}
        logged.append(numbers)
        monkeypatch.setattr(module, "log", lambda name, value, numbers=numbers, **_: numbers.update({name: value}))
        collate = StepCollate(module.renderer, 16 // batches, batches, sort=True)
        step = collate([(POOL[POOL.index_of(e.prompt_id)], e) for e in off_policy])
        # A step's numbers begin anew.
        for number, batch in enumerate([*step, *step]):
            module.training_step(batch, number)
    whole, parts = logged
    assert 0 < whole["train/clipped_fraction"] < 1
    for name in ("train/loss", "train/clipped_fraction", "train/ratio", "train/kl"):
        assert parts[name].item() == pytest.approx(whole[name].item(), rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_packed_and_accumulated_equal_padded(folder: str, examples: list[Example], level: Any) -> None:
    off_policy = [dataclasses.replace(e, logprobs=tuple(v - 0.1 for v in e.logprobs)) for e in examples]
    assert len({len(e.tokens) for e in examples}) > 1
    whole, _ = learn(folder, off_policy, "grpo", level=level)
    assert_equal(whole, learn(folder, off_policy, "grpo", level=level, packing=True)[0])
    assert_equal(whole, learn(folder, off_policy, "grpo", batch_size=4, level=level)[0])


# Of different lengths, so that means over tokens are none over rows.
ROWS = [Example(POOL[i].id, "red " * (1 + 5 * i)) for i in range(4)]
WEIGHTED = [dataclasses.replace(row, weight=weight) for row, weight in zip(ROWS, (2.0, 1.0, 3.0, 1.0), strict=True)]


def test_a_row_of_weight_2_is_that_row_twice(folder: str) -> None:
    repeated = [ROWS[0], ROWS[0], ROWS[1], ROWS[2], ROWS[2], ROWS[2], ROWS[3]]
    weighted = imitate(folder, WEIGHTED)
    assert_equal(imitate(folder, repeated), weighted)
    # What counts are the weights' ratios.
    assert_equal(imitate(folder, [dataclasses.replace(e, weight=e.weight / 4) for e in WEIGHTED]), weighted)
    assert_equal(imitate(folder, WEIGHTED, packing=True), weighted)
    assert_equal(imitate(folder, WEIGHTED, batches=2), weighted)


def test_adapters_learn_by_weights_and_advantages_too(folder: str, examples: list[Example]) -> None:
    """Of the weights beneath them nothing has a gradient, and theirs is that of the same rows written out."""
    lora = LoraSettings(rank=2)
    repeated = [dataclasses.replace(row, weight=1.0) for row in WEIGHTED for _ in range(int(row.weight))]
    weighted = imitate(folder, WEIGHTED, lora=lora)
    assert len(weighted) < len(imitate(folder, WEIGHTED))
    assert_equal(imitate(folder, repeated, lora=lora), weighted)
    assert_equal(imitate(folder, WEIGHTED, batches=2, lora=lora), weighted)
    plain = imitate(folder, [dataclasses.replace(row, weight=1.0) for row in WEIGHTED], lora=lora)
    assert not all(torch.allclose(a, b, rtol=0.01) for a, b in zip(plain, weighted, strict=True))
    whole, _ = learn(folder, examples, "nft", lora=lora)
    assert len(whole) == len(weighted)
    assert_equal(whole, learn(folder, examples, "nft", batch_size=4, lora=lora)[0])


@pytest.mark.parametrize("rows", [ROWS, WEIGHTED], ids=["plain", "weighted"])
def test_tokens_and_weights_count_over_processes_too(
    folder: str, rows: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = policy(folder)
    pairs = [(POOL[POOL.index_of(e.prompt_id)], e) for e in rows]
    collate = StepCollate(module.renderer, 2, 1, sort=True, credited=rows is WEIGHTED)
    [one], [other] = (collate(part) for part in (pairs[:2], pairs[2:]))
    mean = torch.tensor([one.mean_tokens + other.mean_tokens, 2 * one.mean_rows]) / 2
    strategy = SimpleNamespace(reduce=lambda means, reduce_op: mean)
    monkeypatch.setattr(PolicyModule, "trainer", SimpleNamespace(strategy=strategy, world_size=2))
    for batch in (one, other):
        module._share_means(batch)
        (module.loss(batch) / 2).backward()
    assert_equal(imitate(folder, rows), [p.grad for p in module.parameters() if p.grad is not None])


def test_without_other_weights_batches_are_those_of_before(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit by bit: a file in which all rows weigh 1 has no weights, and its batches have none."""
    module = policy(folder)
    data = PolicyDataModule(POOL, batch_size=4)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=module, accumulate_grad_batches=1, default_root_dir="", current_epoch=0, callbacks=[]
    )
    found = {}
    for name, rows in (("one", ROWS), ("other", WEIGHTED)):
        data.set_examples(rows)
        [batch] = data.train_dataloader()
        found[name] = (type(batch), module.loss(batch).item())
    plain = module.renderer.response_inputs([POOL[i] for i in range(4)], [row.response for row in ROWS])
    assert found["one"] == (ResponseInputs, module.loss(plain).item())
    assert found["other"][0] is StepBatch
    assert found["other"][1] != found["one"][1]
    # Of two processes, each must know how many tokens the other has.
    monkeypatch.setattr("mstar.datamodules.policy.world_size", lambda: 2)
    data.set_examples(ROWS)
    [batch] = data.train_dataloader()
    assert isinstance(batch, StepBatch)
    assert batch.weight_B is None
