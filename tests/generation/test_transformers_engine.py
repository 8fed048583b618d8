"""The Transformers engine: equal to plain generation, independent of batching, exact in what it reports."""

from __future__ import annotations

import copy
import math
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mstar import interruption
from mstar.errors import ConfigError, DataError
from mstar.generation import Request, Sample, TransformersEngine, plan_samples, transformers_engine
from mstar.interruption import Interrupted
from mstar.models.backbone import load_model
from mstar.models.export import save_model
from mstar.models.lora import LoraSettings, has_lora
from mstar.models.prefix import extend
from mstar.models.trained_part import prepare_training
from mstar.prompts import TinyDice
from mstar.steps import split_steps
from mstar.types import Prompt, Response

GREEDY = Sample(0, 0.0, 0)
DICE = list(TinyDice("validation", 16))
# Unlike lengths, no picture, two pictures.
PROMPTS = [
    *DICE,
    Prompt("words", "Is red plus red more than 2, or is it not?"),
    Prompt("short", "Even?", DICE[0].images),
    Prompt("two", "What is red plus blue?", (*DICE[1].images, *DICE[2].images)),
]
POLICIES = pytest.mark.parametrize("name", ["trained", "split", "llava"])


@dataclass
class Run:
    """An engine with a record of the tokens that it drew."""

    policy: Any
    drawn: list[list[int]] = field(default_factory=list)

    def __call__(
        self, requests: Sequence[Request], max_new_tokens: int = 24, batch_size: int = 64
    ) -> list[list[Response]]:
        engine = TransformersEngine(max_new_tokens, batch_size, progress=False)
        engine.start(self.policy.model, self.policy.renderer)
        self.drawn.clear()
        return engine.generate(requests)


@pytest.fixture
def run(name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run with the policy called ``name``."""
    made = Run(request.getfixturevalue(name))
    renderer = made.policy.renderer
    decode = renderer.decode

    def remember(ids: Sequence[int]) -> str:
        made.drawn.append(list(ids))
        return str(decode(ids))

    monkeypatch.setattr(renderer, "decode", remember)
    return made


def mixed(prompt: Prompt, count: int = 2) -> tuple[Sample, ...]:
    """Greedy, and some samples at each of three temperatures."""
    samples = [GREEDY]
    for temperature in (0.5, 1.0, 1.6):
        samples += plan_samples(3, "test", prompt.id, count, temperature, first_index=len(samples))
    return tuple(samples)


def content(responses: list[Response]) -> list[tuple[int, str, int, bool, float]]:
    """Everything but the log-probability, which rounding may touch."""
    return [(r.sample_index, r.text, r.num_tokens, r.finished, r.temperature) for r in responses]


def loss_of(model: Any, batch: Any) -> Any:
    """A model's own loss of some responses."""
    return model(
        input_ids=batch.inputs.ids_BT, attention_mask=batch.inputs.mask_BT, labels=batch.labels_BT,
        **batch.inputs.extras,
    ).loss  # fmt: skip


@POLICIES
def test_greedy_tokens_equal_plain_generate(run: Run) -> None:
    model, renderer = run.policy.model, run.policy.renderer
    inputs = renderer.prompt_inputs(PROMPTS)
    assert len(set(inputs.mask_BT.sum(1).tolist())) > 4
    beyond = range(renderer.vocabulary_size, model.get_output_embeddings().weight.shape[0])
    tokens_BT = model.generate(
        input_ids=inputs.ids_BT,
        attention_mask=inputs.mask_BT,
        do_sample=False,
        max_new_tokens=24,
        suppress_tokens=[*renderer.banned_ids, *beyond],
        **inputs.extras,
    )[:, inputs.ids_BT.shape[1] :]
    ends = set(renderer.end_ids)
    expected = []
    for row in tokens_BT.tolist():
        cut = next((i for i, token in enumerate(row) if token in ends), len(row))
        expected.append(row[:cut])
    responses = run([Request(prompt, (GREEDY,)) for prompt in PROMPTS])
    assert run.drawn == expected
    assert len({tuple(row) for row in expected}) > len(PROMPTS) // 2
    assert [r.num_tokens for (r,) in responses] == [min(len(row) + 1, 24) for row in expected]


@POLICIES
def test_responses_do_not_depend_on_what_else_is_drawn(run: Run) -> None:
    prompts = [DICE[0], PROMPTS[-3], DICE[1], PROMPTS[-1], DICE[2]]
    requests = [Request(prompt, mixed(prompt)) for prompt in prompts]
    expected = [content(row) for row in run(requests)]
    assert len({text for row in expected for _, text, *_ in row}) > 20
    for batch_size in (1, 3, 10):
        assert [content(row) for row in run(requests, batch_size=batch_size)] == expected
    assert [content(row) for row in run(requests[::-1])] == expected[::-1]
    for request, row in zip(requests, expected, strict=True):
        assert content(run([request])[0]) == row
    part = replace(requests[0], samples=requests[0].samples[4:2:-1])
    assert content(run([requests[3], part])[1]) == expected[0][4:2:-1]


@pytest.mark.parametrize("name", ["trained"])
def test_the_same_seed_draws_the_same_and_another_something_else(run: Run) -> None:
    def texts(seed: int) -> list[str]:
        rows = run([Request(prompt, plan_samples(seed, "test", prompt.id, 4, 1.0)) for prompt in DICE[:4]])
        return [response.text for row in rows for response in row]

    assert texts(0) == texts(0)
    same = sum(a == b for a, b in zip(texts(0), texts(1), strict=True))
    assert same < 4
    assert len(set(texts(0))) > 12


@POLICIES
def test_the_reported_logprob_is_that_of_a_plain_forward_pass(run: Run) -> None:
    model, renderer = run.policy.model, run.policy.renderer
    prompts = [DICE[0], PROMPTS[-3], PROMPTS[-1]]
    responses = [r for row in run([Request(prompt, mixed(prompt, 1)) for prompt in prompts]) for r in row]
    owners = [prompt for prompt in prompts for _ in range(4)]
    for prompt, response, drawn in zip(owners, responses, list(run.drawn), strict=True):
        assert response.num_tokens == len(drawn) + response.finished
        inputs = renderer.prompt_inputs([prompt])
        ids = torch.cat([inputs.ids_BT, torch.tensor([drawn], dtype=torch.long)], dim=1)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs.extras).logits[0]
        logprobs = logits[inputs.ids_BT.shape[1] - 1 :].float().log_softmax(-1)
        wanted = sum(logprobs[place, token].item() for place, token in enumerate(drawn))
        # The end token is not in the text; a model with several may have drawn any of them.
        ends = [logprobs[-1, end].item() for end in renderer.end_ids] if response.finished else [0.0]
        assert min(abs(response.logprob - wanted - end) for end in ends) < 2e-3


def test_tokens_are_kept_where_they_are_asked_for(trained: Any) -> None:
    engine = TransformersEngine(24, progress=False)
    engine.start(trained.model, trained.renderer)
    requests = [Request(prompt, mixed(prompt, 1), keep_tokens=bool(i)) for i, prompt in enumerate(DICE[:2])]
    plain, kept = engine.generate(requests)
    assert all(r.tokens == r.logprobs == () for r in plain)
    for r in kept:
        assert len(r.tokens) == len(r.logprobs) == r.num_tokens
        assert math.fsum(r.logprobs) == pytest.approx(r.logprob)
        assert trained.renderer.decode(r.tokens[: len(r.tokens) - r.finished]) == r.text


@pytest.mark.parametrize("name", ["trained"])
def test_rows_stop_at_their_own_end(run: Run) -> None:
    row = run([Request(DICE[0], plan_samples(0, "stop", "x", 24, 1.3))], max_new_tokens=17)[0]
    finished = [r for r in row if r.finished]
    assert len({r.num_tokens for r in finished}) > 2
    assert any(not r.finished for r in row)
    for response, drawn in zip(row, run.drawn, strict=True):
        assert response.num_tokens == len(drawn) + response.finished
        assert run.policy.renderer.end_id not in drawn
        assert "<" not in response.text
    assert {r.num_tokens for r in row if not r.finished} == {17}


@pytest.mark.parametrize("name", ["trained"])
def test_the_length_limit(run: Run) -> None:
    requests = [Request(DICE[0], mixed(DICE[0]))]
    (whole,) = run(requests, max_new_tokens=30)
    length = whole[0].num_tokens
    assert whole[0].finished
    assert length < 30
    # The end token counts: with just enough room the response is finished, with one token less it is cut off.
    assert content(run(requests, max_new_tokens=length)[0])[0] == content(whole)[0]
    cut = run(requests, max_new_tokens=length - 1)[0][0]
    assert (cut.finished, cut.num_tokens, cut.text) == (False, length - 1, whole[0].text)
    # A shorter limit cuts what is drawn and changes nothing before.
    for short, long in zip(run(requests, max_new_tokens=5)[0], whole, strict=True):
        assert (short.finished, short.num_tokens) == (False, 5)
        assert long.text.startswith(short.text.rstrip("\ufffd"))


def test_a_response_ends_where_the_models_positions_do(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [Request(prompt, mixed(prompt)) for prompt in PROMPTS]
    counts = [trained.renderer.count_tokens(prompt) for prompt in PROMPTS]
    run = Run(trained)
    whole = run(requests)
    positions = max(counts)  # the longest prompt leaves no room at all
    monkeypatch.setattr(trained.renderer, "positions", positions)
    cut = run(requests)
    for count, before, after in zip(counts, whole, cut, strict=True):
        room = positions - count
        for one, other in zip(before, after, strict=True):
            assert other.num_tokens == min(one.num_tokens, room)
            assert other.finished == (one.finished and one.num_tokens <= room)
            assert one.text.startswith(other.text.rstrip("\ufffd"))
    assert {0 < row[0].num_tokens < 24 for row in cut if not row[0].finished} == {True, False}


@pytest.mark.parametrize("name", ["tiny", "split", "llava"])
def test_no_special_token_is_ever_drawn(run: Run) -> None:
    renderer = run.policy.renderer
    prompts = DICE[:3]
    rows = run([Request(prompt, plan_samples(1, "hot", prompt.id, 16, 1.6)) for prompt in prompts], max_new_tokens=40)
    allowed = renderer.vocabulary_size
    special = {*renderer.tokenizer.all_special_ids, *renderer.tokenizer.added_tokens_decoder}
    assert sum(len(drawn) for drawn in run.drawn) > 1000
    assert not [t for drawn in run.drawn for t in drawn if t in special or t >= allowed]
    # Re-encoded, the responses fit their prompts: as many image tokens as before, and a loss.
    owners = [prompt for prompt, row in zip(prompts, rows, strict=True) for _ in row]
    batch = renderer.response_inputs(owners, [r.text for row in rows for r in row])
    image = renderer.tokenizer.convert_tokens_to_ids("<image>")
    before = renderer.prompt_inputs(prompts[:1]).ids_BT
    assert set((batch.inputs.ids_BT == image).sum(1).tolist()) == {int((before == image).sum())}
    with torch.inference_mode():
        assert math.isfinite(loss_of(run.policy.model, batch))


@pytest.mark.parametrize(("name", "tower"), [("trained", "vision_model"), ("llava", "vision_tower")])
def test_pictures_and_prompts_are_encoded_once(run: Run, tower: str) -> None:
    seen: dict[str, list[int]] = {"pictures": [], "prompts": []}

    def count_pictures(module: Any, arguments: Any, keywords: Any) -> None:
        pixels = arguments[0] if arguments else keywords["pixel_values"]
        seen["pictures"].append(pixels.shape[0])

    def count_prompts(module: Any, arguments: Any, keywords: Any) -> None:
        if keywords["inputs_embeds"].shape[1] > 1:
            seen["prompts"].append(keywords["inputs_embeds"].shape[0])

    base = run.policy.model.model
    text = base.text_model if hasattr(base, "text_model") else base.language_model
    hooks = [
        getattr(base, tower).register_forward_pre_hook(count_pictures, with_kwargs=True),
        text.register_forward_pre_hook(count_prompts, with_kwargs=True),
    ]
    try:
        run([Request(prompt, plan_samples(0, "x", prompt.id, 16, 1.0)) for prompt in DICE[:5]], batch_size=40)
    finally:
        for hook in hooks:
            hook.remove()
    # Two prompts of 16 samples fit into a batch of 40 rows.
    assert seen == {"pictures": [2, 2, 1], "prompts": [2, 2, 1]}


@pytest.mark.parametrize("name", ["trained"])
def test_a_prefix_is_continued(run: Run) -> None:
    whole = [row[0] for row in run([Request(prompt, (GREEDY,)) for prompt in DICE])]
    finished = [r for r in whole if r.finished and len(split_steps(r.text)) > 2]
    assert len(finished) > 4
    by_id = {prompt.id: prompt for prompt in DICE}
    requests, left = [], []
    for number, response in enumerate(finished):
        steps = split_steps(response.text)
        prefix = "".join(steps[: 1 + number % (len(steps) - 1)])
        given = len(run.policy.renderer.tokenizer(prefix)["input_ids"])
        requests.append(Request(by_id[response.prompt_id], (GREEDY,), prefix=prefix))
        left.append(response.num_tokens - given)
    requests.append(Request(DICE[0], plan_samples(0, "x", "y", 3, 1.0), prefix="red = 4\n"))
    rows = run(requests)
    # What greedy decoding wrote is what it writes again after its own first steps.
    assert [row[0].text for row in rows[:-1]] == [response.text for response in finished]
    assert [row[0].num_tokens for row in rows[:-1]] == left
    assert all(r.text.startswith("red = 4\n") and len(r.text) > 8 for r in rows[-1])


@pytest.mark.parametrize("name", ["trained"])
def test_the_answer_is_shown_only_on_request(run: Run) -> None:
    prompt = replace(DICE[0], answer="17")
    text = run.policy.renderer.render_prompt(prompt, show_answer=True)
    spelled_out = replace(prompt, question=text.removeprefix("<image>").removesuffix("\n"))
    shown, hidden, expected, plain = run(
        [
            Request(prompt, (GREEDY,), show_answer=True),
            Request(prompt, (GREEDY,)),
            Request(spelled_out, (GREEDY,)),
            Request(replace(prompt, answer=None), (GREEDY,)),
        ]
    )
    assert shown[0].logprob == pytest.approx(expected[0].logprob, abs=1e-4)
    assert shown[0].text == expected[0].text
    assert hidden[0].text == plain[0].text
    assert abs(shown[0].logprob - hidden[0].logprob) > 0.01


@pytest.mark.parametrize("name", ["trained"])
def test_nothing_to_draw(run: Run) -> None:
    assert run([]) == []
    assert run([Request(DICE[0], ()), Request(DICE[1], (GREEDY,))])[0] == []
    assert run([Request(DICE[0], ())]) == [[]]


@pytest.fixture
def own(trained: Any) -> Any:
    """A copy of the trained policy that a test may change."""
    return replace(trained, model=copy.deepcopy(trained.model))


@pytest.mark.parametrize("training", [True, False])
def test_the_training_mode_is_as_before(own: Any, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TransformersEngine(4, progress=False)
    engine.start(own.model, own.renderer)
    own.model.train(training)
    engine.generate([Request(DICE[0], (GREEDY,))])
    assert own.model.training is training

    def fail(*_: Any, **__: Any) -> None:
        assert not own.model.training
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(own.model.model), "forward", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.generate([Request(DICE[0], (GREEDY,))])
    assert own.model.training is training


def test_generation_leaves_no_trace_in_training(own: Any) -> None:
    """Nothing that was made in inference mode may reach a backward pass."""
    engine = TransformersEngine(4, progress=False)
    engine.start(own.model, own.renderer)
    engine.generate([Request(DICE[0], (GREEDY,))])
    batch = own.renderer.response_inputs(DICE[:2], ["red = 4", "no"])
    loss_of(own.model, batch).backward()
    assert all(p.grad is not None for p in own.model.model.text_model.parameters())


def test_new_weights_are_used(own: Any, tiny: Any) -> None:
    engine = TransformersEngine(8, progress=False)
    request = [Request(DICE[0], (GREEDY,))]
    engine.start(own.model, own.renderer)
    first = engine.generate(request)[0][0].text
    engine.update_weights(tiny.model)
    other = engine.generate(request)[0][0].text
    assert other != first
    own.model.load_state_dict(tiny.model.state_dict())
    engine.update_weights(own.model)
    assert engine.generate(request)[0][0].text == other
    engine.close()
    with pytest.raises(RuntimeError, match="before start"):
        engine.generate(request)


def test_bfloat16(own: Any) -> None:
    engine = TransformersEngine(24, progress=False)
    engine.start(own.model.to(torch.bfloat16), own.renderer)
    rows = engine.generate([Request(prompt, mixed(prompt)) for prompt in DICE[:2]])
    assert all(math.isfinite(r.logprob) and r.logprob < 0 for row in rows for r in row)


@pytest.mark.parametrize("setting", ["max_new_tokens", "batch_size"])
def test_settings_that_cannot_work(setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"TransformersEngine: {setting} is 0, but it must be at least 1\."):
        TransformersEngine(**{setting: 0})


class Waits(TorchDispatchMode):
    """Counts what makes the host wait for a GPU: values that it reads, sizes that depend on values, what it sends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.found: list[str] = []
        tolist = torch.Tensor.tolist

        def read(tensor: Tensor) -> Any:
            self.found.append("tolist")
            return tolist(tensor)

        monkeypatch.setattr(torch.Tensor, "tolist", read)

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        name = str(function).split(".")[1]
        masks = name == "index" and any(i is not None and i.dtype == torch.bool for i in arguments[1])
        if masks or name in {
            "item", "is_nonzero", "_local_scalar_dense", "nonzero", "masked_select", "equal", "lift_fresh", "_unique2"
        }:  # fmt: skip
            self.found.append(name)
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("name", ["trained", "split", "llava"])
def test_the_host_waits_once_in_eight_tokens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wait empties the GPU's queue; it used to be seven a token."""
    monkeypatch.setattr(transformers_engine, "_look_interval", lambda device: 8)
    requests = [Request(prompt, mixed(prompt)) for prompt in DICE[:3]]
    # No response ends, so that no row is left out.
    monkeypatch.setattr(run.policy.renderer, "end_ids", (0,))

    def waits(num_tokens: int) -> int:
        with Waits(monkeypatch) as counted:
            rows = run(requests, max_new_tokens=num_tokens)
        assert {response.num_tokens for row in rows for response in row} == {num_tokens}
        return len(counted.found)

    once = waits(2)
    assert waits(66) == once + 8


@POLICIES
def test_samples_are_one_row_until_they_differ(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def count(policy: Any, prefix: Any, ids_RN: Tensor, mask_RN: Tensor) -> Any:
        rows.append(len(ids_RN))
        return extend(policy, prefix, ids_RN, mask_RN)

    monkeypatch.setattr(transformers_engine, "extend", count)
    requests = [replace(Request(prompt, mixed(prompt)), keep_tokens=True) for prompt in PROMPTS[-6:]]
    beginnings = {
        (response.prompt_id, response.tokens[: place + 1])
        for row in run(requests)
        for response in row
        for place in range(min(len(response.tokens), 24) - 1)
    }
    assert sum(rows) == len(beginnings)
    rows.clear()
    monkeypatch.setattr(transformers_engine, "_look_interval", lambda device: 8)
    run(requests)
    assert sum(rows) > len(beginnings)


@POLICIES
@pytest.mark.parametrize("interval", [3, 8, 100])
def test_responses_do_not_depend_on_when_ended_rows_leave(
    run: Run, interval: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [Request(prompt, mixed(prompt)) for prompt in PROMPTS[-6:]]
    expected = run(requests, max_new_tokens=40)
    monkeypatch.setattr(transformers_engine, "_look_interval", lambda device: interval)
    got = run(requests, max_new_tokens=40)
    assert [content(row) for row in got] == [content(row) for row in expected]
    for before, after in zip(expected, got, strict=True):
        assert [r.logprob for r in after] == pytest.approx([r.logprob for r in before], abs=1e-4)


def test_a_gpu_gets_as_many_rows_as_its_memory_holds(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same whatever else is on it; and the responses are those of other batches."""
    requests = [Request(prompt, plan_samples(0, "x", prompt.id, 8, 1.0)) for prompt in DICE]

    def batches(card: int | None, **settings: Any) -> tuple[list[int], list[Any]]:
        seen = []
        write = TransformersEngine._write

        def remember(self: Any, given: Any, rows: Any, *rest: Any) -> Any:
            seen.append(len(rows))
            return write(self, given, rows, *rest)

        with monkeypatch.context() as patched:
            patched.setattr(transformers_engine, "_card_bytes", lambda device: card)
            patched.setattr(TransformersEngine, "_write", remember)
            engine = TransformersEngine(12, progress=False, **settings)
            engine.start(trained.model, trained.renderer)
            return seen, [content(row) for row in engine.generate(requests)]

    on_cpu, expected = batches(None)
    assert on_cpu == [64, 64]
    all_at_once, responses = batches(10**9)
    assert all_at_once == [128]
    assert responses == expected
    small, responses = batches(60_000_000)
    assert responses == expected
    assert 1 < len(small) < 16
    assert small == batches(60_000_000)[0]
    assert len(batches(60_000_000, memory_utilization=0.9)[0]) < len(small)
    assert batches(60_000_000, batch_size=32)[0] == [32] * 4


def test_when_memory_is_short_after_all_batches_are_halved(
    trained: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    requests = [Request(prompt, plan_samples(0, "x", prompt.id, 8, 1.0)) for prompt in DICE]
    engine = TransformersEngine(12, progress=False)
    engine.start(trained.model, trained.renderer)
    expected = [content(row) for row in engine.generate(requests)]
    seen = []
    write = TransformersEngine._generate_batch

    def short(self: Any, given: Any, rows: Any, *rest: Any) -> Any:
        seen.append(len(rows))
        if len(rows) > 40:
            raise torch.OutOfMemoryError
        return write(self, given, rows, *rest)

    monkeypatch.setattr(transformers_engine, "_card_bytes", lambda device: 10**9)
    monkeypatch.setattr(TransformersEngine, "_generate_batch", short)
    assert [content(row) for row in engine.generate(requests)] == expected
    assert seen == [128, 64, 32, 32, 32, 32]
    assert "going on with 32" in caplog.text
    assert engine.batch_size == 32


def encoders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[threading.Thread, int]]:
    """Fakes a GPU; remembers the threads that prepare batches, and the rows of these."""
    seen: list[tuple[threading.Thread, int]] = []
    encode = transformers_engine._encode

    def remember(renderer: Any, requests: Any, rows: Any) -> Any:
        seen.append((threading.current_thread(), len(rows)))
        return encode(renderer, requests, rows)

    monkeypatch.setattr(transformers_engine, "_encode", remember)
    monkeypatch.setattr(transformers_engine, "_look_interval", lambda device: 8)
    return seen


def test_on_a_gpu_a_thread_prepares_the_next_batch(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [Request(prompt, plan_samples(0, "x", prompt.id, 2, 1.0), "a = ") for prompt in DICE[:3]]
    engine = TransformersEngine(12, 2, progress=False)
    engine.start(trained.model, trained.renderer)
    expected = [content(row) for row in engine.generate(requests)]
    seen = encoders(monkeypatch)
    assert [content(row) for row in engine.generate(requests)] == expected
    [thread] = {thread for thread, _ in seen}
    assert thread is not threading.main_thread()
    assert not thread.is_alive()
    # A batch that was prepared before the memory was found to be short is divided, too.
    seen.clear()
    write, tried = TransformersEngine._generate_batch, []

    def short(self: Any, given: Any, rows: Any, *rest: Any) -> Any:
        tried.append(len(rows))
        if len(rows) > 1:
            raise torch.OutOfMemoryError
        return write(self, given, rows, *rest)

    monkeypatch.setattr(TransformersEngine, "_generate_batch", short)
    assert [content(row) for row in engine.generate(requests)] == expected
    assert tried == [2, *[1] * 6]


def test_what_goes_wrong_in_the_thread_ends_the_generation(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [Request(prompt, (GREEDY,)) for prompt in DICE[:4]]
    engine = TransformersEngine(4, 1, progress=False)
    engine.start(trained.model, trained.renderer)
    seen = encoders(monkeypatch)
    # Of the prompts one has the model's own placeholder, which the renderer refuses.
    bad = Request(Prompt("bad", trained.renderer.placeholders[0]), (GREEDY,))
    with pytest.raises(DataError, match="the text of prompt 'bad'") as raised:
        engine.generate([*requests[:2], bad, *requests[2:]])
    assert "render_prompt" in [entry.name for entry in raised.traceback]
    monkeypatch.setattr(interruption, "_received", signal.SIGTERM)
    with pytest.raises(Interrupted):
        engine.generate(requests)
    assert not any(thread.is_alive() for thread, _ in seen)
    # The last of them was not begun any more.
    assert len(seen) < 4 + 4


def adapt(own: Any) -> Any:
    """Adapters that compute something."""
    prepare_training(own.model, [], LoraSettings(rank=4), seed=1)
    with torch.no_grad():
        for name, parameter in own.model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.05, generator=torch.Generator().manual_seed(0))
    return own


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_adapters_draw_what_an_export_draws(own: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    adapt(own)
    for name, parameter in own.model.named_parameters():
        if ".lora_" not in name:
            parameter.data = parameter.data.to(dtype)
    save_model(own.model, own.renderer, tmp_path)
    exported = load_model(str(tmp_path), dtype=str(dtype).removeprefix("torch."))
    requests = [Request(prompt, mixed(prompt)) for prompt in DICE[:4]]
    before = {name: (id(p), p.detach().clone()) for name, p in own.model.named_parameters()}

    def drawn(model: Any, adapters: Any) -> list[list[Response]]:
        engine = TransformersEngine(24, progress=False, adapters=adapters)
        engine.start(model, own.renderer)
        return engine.generate(requests)

    assert drawn(own.model, "merged") == drawn(exported, "merged")
    apart = drawn(own.model, "apart")
    if dtype == torch.float32:
        assert [content(row) for row in apart] == [content(row) for row in drawn(exported, "apart")]
    after = dict(own.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(id(after[name]) == known and torch.equal(after[name], value) for name, (known, value) in before.items())


def test_adapters_are_apart_again_after_an_interruption(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    adapt(own)
    engine = TransformersEngine(24, progress=False)
    engine.start(own.model, own.renderer)

    def stop() -> None:
        assert not has_lora(own.model)
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(transformers_engine, "stop_if_asked", stop)
    with pytest.raises(Interrupted):
        engine.generate([Request(DICE[0], (GREEDY,))])
    assert has_lora(own.model)
    batch = own.renderer.response_inputs(DICE[:2], ["red = 4", "no"])
    loss_of(own.model.train(), batch).backward()
    assert all((p.grad is not None) is (".lora_" in name) for name, p in own.model.named_parameters())


@pytest.mark.parametrize("name", ["trained", "split", "llava"])
def test_autocast_is_the_same_for_rollouts_as_for_a_forward_pass(run: Run) -> None:
    """Within autocast the reported log-probabilities are those of a plain forward pass within it."""
    model, renderer = run.policy.model, run.policy.renderer
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        (responses,) = run([Request(DICE[0], mixed(DICE[0]))])
        for response, drawn in zip(responses, list(run.drawn), strict=True):
            inputs = renderer.prompt_inputs([DICE[0]])
            ids = torch.cat([inputs.ids_BT, torch.tensor([drawn], dtype=torch.long)], dim=1)
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **inputs.extras).logits[0]
            logprobs = logits[inputs.ids_BT.shape[1] - 1 :].float().log_softmax(-1)
            wanted = sum(logprobs[place, token].item() for place, token in enumerate(drawn))
            ends = [logprobs[-1, end].item() for end in renderer.end_ids] if response.finished else [0.0]
            error = min(abs(response.logprob - wanted - end) for end in ends)
            assert error / response.num_tokens < 0.03


@pytest.mark.parametrize("name", ["trained"])
def test_leaving_rows_out_costs_few_waits_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_engine, "_look_interval", lambda device: 8)
    requests = [Request(prompt, mixed(prompt)) for prompt in DICE[:3]]
    with Waits(monkeypatch) as counted:
        rows = run(requests, max_new_tokens=66)
    assert len({response.num_tokens for row in rows for response in row}) > 3
    with Waits(monkeypatch) as once:
        run(requests, max_new_tokens=2)
    # Which rows, the order of those that stay (twice), and their places by prompt.
    assert len(counted.found) <= len(once.found) + 4 * 8


class Conversions(TorchDispatchMode):
    """Counts weights that are converted to another type."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        made = function(*arguments, **(keywords or {}))
        if str(function).startswith(("aten.to.", "aten._to_copy")) and isinstance(arguments[0], torch.nn.Parameter):
            self.count += made.dtype != arguments[0].dtype
        return made


@pytest.mark.parametrize("trained_weights", [True, False])
def test_under_autocast_weights_are_converted_once_not_for_every_token(
    own: Any, trained_weights: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Autocast keeps no conversions in inference mode, not even of weights that are trained."""
    monkeypatch.setattr(own.renderer, "end_ids", (0,))
    own.model.requires_grad_(trained_weights)

    def conversions(num_tokens: int) -> int:
        engine = TransformersEngine(num_tokens, progress=False)
        engine.start(own.model, own.renderer)
        with torch.autocast("cpu", dtype=torch.bfloat16), Conversions() as counted:
            engine.generate([Request(DICE[0], (GREEDY,))])
        return counted.count

    assert conversions(9) == conversions(2) > 20
