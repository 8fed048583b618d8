"""The switches that the paper compares, by what they do to optimizer, weights, prompts and answers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file, save_file

from mstar.__main__ import main
from mstar.generation import Request
from mstar.generation.transformers_engine import TransformersEngine
from mstar.grading import AnswerGrader
from mstar.iteration.plan import iteration_indices
from mstar.models.fingerprint import fingerprint_model
from mstar.modules import PolicyModule
from mstar.prompts import PromptSource, TinyDice
from mstar.rendering import Renderer
from mstar.storage import ExampleFile, RunDirectory
from mstar.types import Fate, Prompt, Verdict, VerdictStatus
from tests.integration.results import class_path, plan_of, report_of, rows_of


class Rejecting(AnswerGrader):
    """Finds every answer to some prompts wrong."""

    def __init__(self, rejected: list[str]) -> None:
        self.rejected = rejected

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        verdict = super().grade(prompt, response)
        return Verdict(False, verdict.predicted, verdict.status) if prompt.id in self.rejected else verdict


class Lenient(AnswerGrader):
    """Finds everything right."""

    def grade(self, prompt: Prompt, response: str) -> Verdict:
        return Verdict(True, "anything", VerdictStatus.GRADED)


class Mislabelled(PromptSource):
    """Prompts of the pool whose given answer is one that no policy writes."""

    def __init__(self, size: int) -> None:
        self.dice = TinyDice("pool", size, seed=1)

    def __len__(self) -> int:
        return len(self.dice)

    def __getitem__(self, index: int) -> Prompt:
        prompt = self.dice[index]
        return Prompt(id=prompt.id, question=prompt.question, images=prompt.images, answer="12345")

    def index_of(self, prompt_id: str) -> int | None:
        return self.dice.index_of(prompt_id)


def checkpoint(root: Path, iteration: int) -> dict[str, Any]:
    path = root / f"checkpoints/iteration-{iteration:04d}.ckpt"
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def steps(root: Path, iteration: int) -> int:
    """Optimizer steps of one iteration, from what it kept."""
    return -(-len(ExampleFile(RunDirectory(root).examples(iteration))) // 4)


KEEP_ALL = ["--trainer.callbacks+", "mstar.callbacks.IterationCheckpoint", "--trainer.callbacks.keep_all", "true"]


@pytest.mark.parametrize("method", ["continuous", "iterative_rft", "rest_em", "rloop"])
def test_what_a_method_inherits(evolve: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: dict[int, str] = {}
    step = PolicyModule.training_step

    def training_step(module: PolicyModule, *arguments: Any) -> Any:
        begun.setdefault(module.trainer.current_epoch + 1, fingerprint_model(module.policy))
        return step(module, *arguments)

    monkeypatch.setattr(PolicyModule, "training_step", training_step)
    root = evolve(*KEEP_ALL, method=method, dynamics=False)
    expected = steps(root, 2) + (steps(root, 1) if method == "continuous" else 0)
    state = checkpoint(root, 2)
    taken = {int(entry["step"]) for entry in state["optimizer_states"][0]["state"].values()}
    assert max(taken) == expected
    assert state["lr_schedulers"][0]["last_epoch"] == expected
    assert state["global_step"] == steps(root, 1) + steps(root, 2)
    first, second = (set(ExampleFile(RunDirectory(root).examples(i))) for i in (1, 2))
    # RLoop trains on all successes so far; the others on those of the iteration.
    assert (first <= second) == (method == "rloop")
    assert report_of(root, 2)["examples"] == len(second)
    # Whatever an iteration's training starts from, the policy that the last one made has drawn its responses.
    plans = [plan_of(root, i) for i in (1, 2)]
    assert plans[0]["policy"] != plans[1]["policy"]
    # ReST-EM and RLoop go back to the first weights, the others on with the last ones.
    back = method in ("rest_em", "rloop")
    assert begun == {1: plans[0]["policy"], 2: plans[0 if back else 1]["policy"]}


@pytest.mark.parametrize("method", ["rest_em", "rloop"])
def test_first_weights_that_are_no_longer_the_same_are_not_trained_anew(
    evolve: Any, warm_policy: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    model = evolve.folder / "model"
    shutil.copytree(warm_policy, model)
    settings = evolve.settings(method=method, dynamics=False)
    settings["model"]["init_args"]["model_name"] = str(model)
    command = ["fit", "--config", str(evolve.write(settings)), "--trainer.max_epochs"]
    assert main([*command, "1"]) == 0
    # As a warm-up that is run again leaves them.
    weights = load_file(model / "model.safetensors")
    save_file({name: value * 1.5 for name, value in weights.items()}, model / "model.safetensors", {"format": "pt"})
    assert main([*command, "2"]) == 1
    assert "(model.model_name) has other weights than when the run began" in capsys.readouterr().err
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    assert main([*command, "2"]) == 0


def test_grpo_learns_from_all_samples_and_goes_on_within_a_pass_as_if_never_stopped(evolve: Any) -> None:
    settings: dict[str, Any] = {
        "method": "grpo", "interval": 0.25, "policy_gradient": {"passes": 2}, "dynamics": False
    }  # fmt: skip
    whole = evolve(*KEEP_ALL, "--trainer.max_epochs", "1", name="whole", **settings)
    shards = rows_of(whole, 1)
    examples = list(ExampleFile(RunDirectory(whole).examples(1)))
    assert {row.verdict.correct for row in shards if row.fate is Fate.KEPT} == {True, False}
    assert {row.fate for row in shards} <= {Fate.KEPT, Fate.NO_GRADIENT, Fate.TRUNCATED}
    assert len(examples) == sum(row.fate is Fate.KEPT for row in shards)
    assert all(len(e.tokens) == len(e.logprobs) > 0 and e.advantage for e in examples)
    taken = -(-2 * len(examples) // 4)
    assert checkpoint(whole, 1)["global_step"] == taken
    for limit in (taken - 1, -1):
        stopped = evolve(
            *KEEP_ALL, "--trainer.max_epochs", "1", "--trainer.max_steps", str(limit), name="stopped", **settings
        )
    one, other = checkpoint(whole, 1)["state_dict"], checkpoint(stopped, 1)["state_dict"]
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    # A method that imitates reads these responses, without their tokens.
    imitating = evolve("--trainer.max_epochs", "1", name="reader", interval=0.25, dynamics=False, reuse=str(whole))
    assert report_of(imitating, 1)["reused"] == 8
    assert [row.response.text for row in rows_of(imitating, 1)] == [row.response.text for row in shards]
    assert "tokens" not in pyarrow.parquet.read_schema(RunDirectory(imitating).responses(1, 0)).names


def test_no_gradients_are_kept_through_the_next_rollouts(evolve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are as large as the weights."""
    kept: list[bool] = []
    generate = TransformersEngine.generate

    def look(engine: TransformersEngine, requests: Any) -> Any:
        kept.append(any(weight.grad is not None for weight in engine._policy.parameters()))  # type: ignore[union-attr]
        return generate(engine, requests)

    monkeypatch.setattr(TransformersEngine, "generate", look)
    evolve("--trainer.max_epochs", "2")
    assert len(kept) > 3
    assert not any(kept)


@pytest.mark.parametrize("method", ["continuous", "rest_em"])
def test_an_iteration_that_keeps_nothing_changes_nothing_and_the_run_goes_on(
    evolve: Any, warm_policy: Path, method: str
) -> None:
    pool = TinyDice("pool", 32)
    rejected = [pool[i].id for i in iteration_indices(32, 0.5, 2, 0, "labelled")]
    grader = {"class_path": class_path(Rejecting), "init_args": {"rejected": rejected}}
    root = evolve(*KEEP_ALL, "--trainer.max_epochs", "3", method=method, grader=grader)
    assert [report_of(root, i)["skipped"] for i in (1, 2, 3)] == [False, True, False]
    assert report_of(root, 2)["funnel"]["kept"] == report_of(root, 2)["funnel"]["correct"] == 0
    assert report_of(root, 2)["dynamics"]["k"] == 4
    one, two, three = (checkpoint(root, i) for i in (1, 2, 3))
    assert two["global_step"] == one["global_step"]
    assert three["global_step"] == one["global_step"] + steps(root, 3)
    if method == "rest_em":
        # No step was taken after the weights were set back, so they are those of the warm-up.
        before = load_file(warm_policy / "model.safetensors")
        assert all(torch.equal(value, two["state_dict"][f"model.{name}"]) for name, value in before.items())
    else:
        assert all(torch.equal(value, two["state_dict"][name]) for name, value in one["state_dict"].items())
    last = two["lr_schedulers"][0]["last_epoch"]
    assert last == (one["lr_schedulers"][0]["last_epoch"] if method == "continuous" else 0)


def test_an_interval_that_is_no_divisor_goes_on_into_the_next_pass(evolve: Any) -> None:
    root = evolve("--trainer.max_epochs", "3", interval=0.375, dynamics=False)
    ids = [[row.response.prompt_id for row in rows_of(root, i)][::4] for i in (1, 2, 3)]
    assert [len(part) for part in ids[:2]] == [12, 12]
    assert not set(ids[0]) & set(ids[1])
    # 8 prompts end the first pass; the other 4 of the third iteration begin the second.
    assert set(ids[0]) | set(ids[1]) | set(ids[2]) == {prompt.id for prompt in TinyDice("pool", 32)}
    assert len(ids[2]) == len(set(ids[2]))


@pytest.mark.parametrize("reward", [True, False])
def test_voting_never_sees_the_hidden_answer(evolve: Any, warm_mprm: Path, reward: bool) -> None:
    flags = [f"--data.unlabelled={class_path(Mislabelled)}", "--data.unlabelled.size", "16"]
    root = evolve(
        *flags,
        unlabelled="voting",
        unlabelled_start=0.5,
        interval=1.0,
        dynamics=False,
        answer_conditioned=True,
        reward_model=str(warm_mprm) if reward else None,
        shard_size=16,
    )
    # The last shard alone has been voted on; datasets opens shards of the same columns only.
    shards = RunDirectory(root).response_shards(2)
    assert len(shards) == 3
    all_shards = [*RunDirectory(root).response_shards(1), *shards]
    assert len({tuple(pyarrow.parquet.read_schema(shard).names) for shard in all_shards}) == 1
    assert report_of(root, 1)["prompts"] == 32
    assert report_of(root, 2)["prompts"] == 32 + 16
    voted = [row for row in rows_of(root, 2) if row.response.prompt_id.startswith("pool-1-")]
    assert len(voted) == 16 * 4
    assert {row.verdict.predicted for row in voted} - {"12345", None}
    for prompt_id in {row.response.prompt_id for row in voted}:
        group = [row for row in voted if row.response.prompt_id == prompt_id]
        answers = [row.verdict.predicted for row in group if row.verdict.predicted is not None]
        right = {row.verdict.predicted for row in group if row.verdict.correct}
        if answers:
            [winner] = right
            weight = {
                answer: sum(
                    (r.process_reward or 0.0) if reward else 1.0 for r in group if r.verdict.predicted == answer
                )
                for answer in answers
            }
            assert weight[winner] == max(weight.values())
    kept = [e for e in ExampleFile(RunDirectory(root).examples(2)) if e.prompt_id.startswith("pool-1-")]
    assert kept
    table = [row for shard in shards for row in pyarrow.parquet.read_table(shard).to_pylist()]
    assert "12345" not in {row["answer"] for row in table}
    assert {row["answer"] for row in table if row["prompt_id"].startswith("pool-1-")} >= {
        e.response.rpartition(": ")[2] for e in kept
    }


def test_oracle_grades_unlabelled_prompts_by_their_own_answer(evolve: Any) -> None:
    flags = [f"--data.unlabelled={class_path(Mislabelled)}", "--data.unlabelled.size", "16"]
    root = evolve(*flags, "--trainer.max_epochs", "1", unlabelled="oracle", interval=1.0, dynamics=False)
    found = [row for row in rows_of(root, 1) if row.response.prompt_id.startswith("pool-1-")]
    assert len(found) == 16 * 4
    assert {row.verdict.status for row in found} <= {VerdictStatus.GRADED, VerdictStatus.NO_ANSWER}
    assert not any(row.verdict.correct or row.fate is Fate.KEPT for row in found)


def test_the_answer_is_shown_while_sampling_and_not_in_training(evolve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled: list[Request] = []
    trained: list[str] = []
    generate, render = TransformersEngine.generate, Renderer.render_prompt

    def spy_generate(self: TransformersEngine, requests: list[Request]) -> Any:
        sampled.extend(requests)
        return generate(self, requests)

    def spy_inputs(self: Renderer, prompts: list[Prompt], *learned: Any) -> Any:
        texts: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Renderer, "render_prompt", lambda s, p, **k: texts.append(render(s, p, **k)) or texts[-1])
            made = response_inputs(self, prompts, *learned)
        trained.extend(texts)
        return made

    response_inputs = Renderer.response_inputs
    monkeypatch.setattr(TransformersEngine, "generate", spy_generate)
    monkeypatch.setattr(Renderer, "response_inputs", spy_inputs)
    evolve("--trainer.max_epochs", "1", answer_conditioned=True, interval=1.0, grader=class_path(Lenient))
    shown = [request.show_answer for request in sampled]
    # Dynamics before, rollouts, dynamics after; what is measured is what the policy can do without the answer.
    assert shown == [False] * 8 + [True] * 32 + [False] * 8
    assert trained
    assert not any("correct answer" in text for text in trained)
