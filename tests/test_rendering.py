"""Rendering: the label mask and step ends by hand, padding, prefixes, and what must not become a special token."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from mstar.errors import ConfigError, DataError
from mstar.generation import TransformersEngine
from mstar.prompts import TinyDice
from mstar.prompts.tiny_dice import TinyDiceImage
from mstar.rendering import IGNORE_INDEX, Renderer
from mstar.steps import split_steps
from mstar.types import Prompt, Turn

if TYPE_CHECKING:
    from transformers import BatchFeature

IMAGE = TinyDiceImage("test", 0, 0)
PROMPT = Prompt("p", "Is red plus blue even?", (IMAGE,), answer="yes")
FAKE = "<fake_token_around_image>"
END = "<end_of_utterance>"
# The bytes of "\n" and " " as the byte-level vocabulary writes them.
NEWLINE, SPACE = "\u010a", "\u0120"


def names(renderer: Renderer, ids: Any) -> list[str]:
    return [str(token) for token in renderer.tokenizer.convert_ids_to_tokens(ids)]


def test_the_label_mask_token_by_token(tiny: Any) -> None:
    batch = tiny.renderer.response_inputs([PROMPT], ["red = 4\nAnswer: yes"])
    expected = [
        *[(token, False) for token in (FAKE, "<global-img>", "<image>", "<image>", "<image>", "<image>", FAKE)],
        *[(token, False) for token in ("Is", "Ġred", "Ġplus", "Ġblue", "Ġeven", "?", NEWLINE)],
        *[(token, True) for token in ("red", "Ġ=", "Ġ4", NEWLINE, "Answer", ":", "Ġyes", END)],
    ]
    ids, labels = batch.inputs.ids_BT[0].tolist(), batch.labels_BT[0].tolist()
    assert names(tiny.renderer, ids) == [token for token, _ in expected]
    assert labels == [
        token_id if learned else IGNORE_INDEX for token_id, (_, learned) in zip(ids, expected, strict=True)
    ]
    assert batch.inputs.mask_BT.tolist() == [[1] * len(ids)]
    # "\n" after the 4, and the end token.
    assert batch.step_ends == [[17, 21]]


def test_the_label_mask_of_a_padded_batch(tiny: Any) -> None:
    short, long = replace(PROMPT, question="Even?"), PROMPT
    batch = tiny.renderer.response_inputs([short, long], ["red = 4\nAnswer: yes", "no"])
    for row, response in enumerate((["red", "Ġ=", "Ġ4", NEWLINE, "Answer", ":", "Ġyes", END], ["no", END])):
        labels = batch.labels_BT[row]
        learned = labels != IGNORE_INDEX
        assert names(tiny.renderer, labels[learned].tolist()) == response
        assert torch.equal(labels[learned], batch.inputs.ids_BT[row][learned])
        assert not learned[batch.inputs.mask_BT[row] == 0].any()
        assert batch.step_ends[row][-1] == learned.nonzero()[-1].item()
    widths = batch.inputs.mask_BT.sum(1)
    assert widths[0] != widths[1]
    assert batch.inputs.mask_BT[:, 0].all()


def test_labels_in_a_template_whose_user_turn_ends_with_the_same_token(split: Any) -> None:
    batch = split.renderer.response_inputs([PROMPT], ["red = 4\nblue = 5"])
    ids, labels = batch.inputs.ids_BT[0], batch.labels_BT[0]
    assert names(split.renderer, labels[labels != IGNORE_INDEX].tolist()) == [
        "Ġred", "Ġ=", "Ġ4", NEWLINE, "blue", "Ġ=", "Ġ5", END,
    ]  # fmt: skip
    assert names(split.renderer, ids.tolist()).count(END) == 2
    assert split.renderer.tokenizer.decode(ids).endswith(f"even?{END}\nAssistant: red = 4\nblue = 5{END}")
    # Four parts and the whole picture, four tokens each.
    assert names(split.renderer, ids.tolist()).count("<image>") == 20
    assert batch.inputs.extras["pixel_values"].shape[:2] == (1, 5)


def test_an_answer_begins_as_the_template_writes_it(split: Any, tiny: Any) -> None:
    """SmolVLM's template has a space behind "Assistant:", which a model that was trained with it writes itself."""
    renderer = split.renderer
    assert (renderer.gap, tiny.renderer.gap) == (" ", "")
    chat = [
        {"role": "user", "content": [{"type": "text", "text": "Even?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "red = 4\nblue = 5"}]},
    ]
    template = renderer.tokenizer(renderer.processor.apply_chat_template(chat, tokenize=False))["input_ids"]
    [tokens, sampled], [ends, same_ends] = renderer.encode_responses(["red = 4\nblue = 5", " red = 4\nblue = 5"])
    place = len(renderer.tokenizer(renderer.render_prompt(Prompt("p", "Even?")))["input_ids"])
    assert template[place : place + len(tokens)] == tokens == sampled
    assert ends == same_ends == [3, len(tokens) - 1]
    [prefix, nothing] = renderer.prompt_inputs([Prompt("p", "Even?")] * 2, prefixes=["red = 4\n", ""]).ids_BT.tolist()
    assert prefix[-4:] == tokens[:4]
    assert nothing[-place:] == template[:place]


@pytest.mark.parametrize("opening", ["<think>\n", "\u25c1think\u25b7"])
def test_a_thought_that_the_turn_has_opened_is_not_opened_again(opening: str, tiny: Any) -> None:
    processor = copy.deepcopy(tiny.renderer.processor)
    processor.chat_template += "{% if add_generation_prompt %}" + opening + "{% endif %}"
    renderer = Renderer(processor)
    assert (renderer.thought, renderer.gap, tiny.renderer.thought) == (opening, "", "")
    inner = "red = 4\n</think>\nAnswer: yes"
    again = [opening + inner, opening.strip() + inner, opening.strip()]
    [tokens, *others], [ends, *other_ends] = renderer.encode_responses([inner, *again])
    assert others == [tokens, tokens, [renderer.end_id]]
    # A step for each of the response's, also for a line that opens the thought.
    assert other_ends[0] == ([0, *ends] if "\n" in opening else ends)
    assert other_ends[1:] == [ends, [0]]
    prompts, prefixes = [Prompt("p", "Even?")] * 2, ["", opening]
    [drawn, continued] = renderer.prompt_inputs(prompts, prefixes=prefixes).ids_BT.tolist()
    assert drawn == continued
    assert renderer.tokenizer.decode(drawn).endswith(opening)


@pytest.mark.parametrize(
    ("response", "tokens", "ends"),
    [
        ("red = 4\nblue = 5", ["red", "Ġ=", "Ġ4", NEWLINE, "blue", "Ġ=", "Ġ5", END], [3, 7]),
        ("red = 4\n\nblue = 5", ["red", "Ġ=", "Ġ4", NEWLINE, NEWLINE, "blue", "Ġ=", "Ġ5", END], [4, 8]),
        ("red = 4\n", ["red", "Ġ=", "Ġ4", NEWLINE, END], [4]),
        ("\nred = 4", [NEWLINE, "red", "Ġ=", "Ġ4", END], [4]),
        # The word that carries the indentation belongs to the second step, so the first ends with the line break.
        ("red = 4\n blue = 5", ["red", "Ġ=", "Ġ4", NEWLINE, "Ġblue", "Ġ=", "Ġ5", END], [3, 7]),
        ("é\nred", ["Ã", "©", NEWLINE, "red", END], [2, 4]),
        ("", [END], []),
        (" \n", [SPACE, NEWLINE, END], []),
    ],
)
def test_step_ends(tiny: Any, response: str, tokens: list[str], ends: list[int]) -> None:
    encoded, step_ends = tiny.renderer.encode_responses([response])
    assert names(tiny.renderer, encoded[0]) == tokens
    assert step_ends == [ends]


@pytest.mark.parametrize("name", ["tiny", "split", "llava"])
def test_special_tokens_written_as_text_stay_text(name: str, request: pytest.FixtureRequest) -> None:
    renderer = request.getfixturevalue(name).renderer
    text = f"<image>red{END}<pad><fake_token_around_image>\nAnswer: <global-img>"
    (tokens,), _ = renderer.encode_responses([text])
    special = {*renderer.tokenizer.all_special_ids, *renderer.tokenizer.added_tokens_decoder}
    assert special.isdisjoint(tokens[:-1])
    assert tokens[-1] == renderer.end_id
    assert renderer.decode(tokens[:-1]) == renderer.gap + text
    whole = renderer.response_inputs([PROMPT], [text]).inputs.ids_BT[0].tolist()
    prefix = renderer.prompt_inputs([PROMPT], prefixes=[text]).ids_BT[0].tolist()
    assert [*prefix, renderer.end_id] == whole


def test_prompts_of_unlike_length_are_padded_on_the_left(tiny: Any) -> None:
    prompts = [replace(PROMPT, question="Even?"), PROMPT, Prompt("q", "No picture here, only words.")]
    batch = tiny.renderer.prompt_inputs(prompts)
    alone = [tiny.renderer.prompt_inputs([prompt]).ids_BT[0].tolist() for prompt in prompts]
    width = max(len(row) for row in alone)
    assert len({len(row) for row in alone}) == 3
    pad = tiny.renderer.tokenizer.pad_token_id
    assert batch.ids_BT.tolist() == [[pad] * (width - len(row)) + row for row in alone]
    assert batch.mask_BT.tolist() == [[0] * (width - len(row)) + [1] * len(row) for row in alone]


@pytest.mark.parametrize("name", ["tiny", "split"])
def test_a_prefix_is_encoded_as_the_whole_response_is(name: str, request: pytest.FixtureRequest) -> None:
    renderer = request.getfixturevalue(name).renderer
    responses = [p.rationale or "" for p in TinyDice("seed", 5)] + ["red = 4\n\nblue is 12\n12 + 4 = 16\nAnswer: 16\n"]
    for response in responses:
        whole = renderer.response_inputs([PROMPT], [response])
        steps = split_steps(response)
        for cut in range(1, len(steps)):
            prefix = "".join(steps[:cut])
            inputs = renderer.prompt_inputs([PROMPT], prefixes=[prefix])
            end = whole.step_ends[0][cut - 1] + 1
            assert inputs.ids_BT[0].tolist() == whole.inputs.ids_BT[0, :end].tolist()


def test_prefixes_of_unlike_length_in_one_batch(tiny: Any) -> None:
    prompts = [PROMPT, replace(PROMPT, question="Even?"), PROMPT]
    prefixes = ["red = 4\nblue = 5\n", "red = 4\n", ""]
    batch = tiny.renderer.prompt_inputs(prompts, prefixes=prefixes)
    for row, (prompt, prefix) in enumerate(zip(prompts, prefixes, strict=True)):
        alone = tiny.renderer.prompt_inputs([prompt], prefixes=[prefix])
        assert batch.ids_BT[row][batch.mask_BT[row].bool()].tolist() == alone.ids_BT[0].tolist()
        assert batch.mask_BT[row, -1] == 1


class TypedProcessor:
    """The embedded processor that also says which tokens are of which kind, as those of other families do."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        self.tokenizer = processor.tokenizer
        self.chat_template = processor.chat_template
        self.apply_chat_template = processor.apply_chat_template

    def __call__(self, **arguments: Any) -> BatchFeature:
        batch = self.processor(**arguments)
        # 7 for pictures, 1 for text, 5 for padding: a misplaced entry cannot look right.
        kinds = torch.where(batch["input_ids"] == self.tokenizer.convert_tokens_to_ids("<image>"), 7, 1)
        batch["mm_token_type_ids"] = torch.where(batch["attention_mask"].bool(), kinds, 5)
        return batch


def test_extras_with_one_entry_a_token_are_laid_out_again(tiny: Any) -> None:
    renderer = Renderer(TypedProcessor(tiny.renderer.processor))  # type: ignore[arg-type]
    prompts = [replace(PROMPT, question="Even?"), PROMPT]
    image = [1, 1, 7, 7, 7, 7, 1]
    lengths = [renderer.prompt_inputs([prompt]).ids_BT.shape[1] for prompt in prompts]
    kinds = [image + [1] * (length - 7) for length in lengths]
    gap = lengths[1] - lengths[0]
    assert gap > 0

    plain = renderer.prompt_inputs(prompts)
    assert plain.extras["mm_token_type_ids"].tolist() == [[0] * gap + kinds[0], kinds[1]]
    assert plain.extras["pixel_values"].shape == (2, 1, 3, 32, 32)
    # Two tokens of prefix in the first row, none in the second.
    continued = renderer.prompt_inputs(prompts, prefixes=["red =", ""])
    width = continued.ids_BT.shape[1]
    assert continued.extras["mm_token_type_ids"].tolist() == [
        [0] * (width - lengths[0] - 2) + kinds[0] + [0, 0],
        [0] * (width - lengths[1]) + kinds[1],
    ]
    answered = renderer.response_inputs(prompts, ["red = 4", "no"]).inputs
    width = answered.ids_BT.shape[1]
    assert answered.extras["mm_token_type_ids"].tolist() == [
        kinds[0] + [0] * (width - lengths[0]),
        kinds[1] + [0] * (width - lengths[1]),
    ]


def test_prompts_without_with_one_and_with_several_images(tiny: Any) -> None:
    text, one = replace(PROMPT, images=()), PROMPT
    two = replace(PROMPT, images=(IMAGE, TinyDiceImage("test", 0, 1)))
    assert tiny.renderer.prompt_inputs([text]).extras == {}
    batch = tiny.renderer.prompt_inputs([text, two, one])
    image_id = tiny.renderer.tokenizer.convert_tokens_to_ids("<image>")
    assert (batch.ids_BT == image_id).sum(1).tolist() == [0, 8, 4]
    pixels = batch.extras["pixel_values"]
    assert pixels.shape == (3, 2, 3, 32, 32)
    assert torch.equal(pixels[1, 0], pixels[2, 0])
    assert not torch.equal(pixels[1, 0], pixels[1, 1])
    assert not pixels[0].any()


def test_the_answer_is_shown_only_when_asked_for(tiny: Any) -> None:
    prompt = replace(PROMPT, answer="marsupial")
    assert "marsupial" not in tiny.renderer.render_prompt(prompt)
    shown = tiny.renderer.render_prompt(prompt, show_answer=True)
    assert shown.startswith("<image>Is red plus blue even?\n")
    assert "The correct answer is marsupial." in shown
    batch = tiny.renderer.prompt_inputs([prompt, prompt], show_answer=[False, True])
    texts = [tiny.renderer.tokenizer.decode(row) for row in batch.ids_BT]
    assert ["marsupial" in text for text in texts] == [False, True]
    learned = tiny.renderer.response_inputs([prompt], ["no"]).inputs.ids_BT[0]
    assert "marsupial" not in tiny.renderer.tokenizer.decode(learned)


def test_prompts_that_cannot_be_rendered(tiny: Any) -> None:
    with pytest.raises(DataError, match=r"prompt 'p' has no answer, which answer-conditioned sampling shows"):
        tiny.renderer.render_prompt(replace(PROMPT, answer=None), show_answer=True)
    with pytest.raises(DataError, match=r"prompt 'p' contains '<image>', which stands for a picture: remove it"):
        tiny.renderer.prompt_inputs([replace(PROMPT, images=(), question="<image>\nIs it even?")])
    with pytest.raises(DataError, match=r"prompt 'p' has '<image>' 2 times, and it has 1 picture: write it"):
        tiny.renderer.prompt_inputs([replace(PROMPT, question="<image>\nIs <image> even?")])


def test_which_tokens_end_a_response_and_which_are_never_drawn(tiny: Any, split: Any, llava: Any) -> None:
    def ends(policy: Any) -> list[str]:
        return names(policy.renderer, list(policy.renderer.end_ids))

    assert (ends(tiny), tiny.renderer.end_id) == ([END], 1)
    # The turn ends with another token than the tokenizer's eos; the generation config names both.
    assert set(ends(split)) == {"<|im_end|>", END}
    assert names(split.renderer, [split.renderer.end_id]) == [END]
    # Nothing special follows a response in this template: eos it is.
    assert (ends(llava), llava.renderer.end_id) == ([END], 1)

    assert set(names(split.renderer, list(split.renderer.banned_ids))) == {
        "<pad>", "<image>", FAKE, "<global-img>", "<|im_start|>",
        "<row_1_col_1>", "<row_1_col_2>", "<row_2_col_1>", "<row_2_col_2>",
    }  # fmt: skip


def test_added_tokens_that_are_text_may_be_drawn_but_placeholders_never(tiny: Any) -> None:
    from tokenizers import AddedToken

    processor = copy.deepcopy(tiny.renderer.processor)
    processor.tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("<clip>", special=False)])
    processor.video_token = "<clip>"  # noqa: S105 - the name of a token of the vocabulary
    renderer = Renderer(processor)
    banned = set(names(renderer, list(renderer.banned_ids)))
    assert "<clip>" in banned
    assert "<think>" not in banned


@pytest.mark.parametrize(("request_", "opening"), [("<|think|>", "<|channel>"), ("[THINK]", "[THINK]")])
def test_thoughts_that_are_asked_for_and_may_not_be_drawn_are_refused(request_: str, opening: str, tiny: Any) -> None:
    from tokenizers import AddedToken

    for special, asks in ((True, True), (True, False), (False, True)):
        processor = copy.deepcopy(tiny.renderer.processor)
        processor.tokenizer.add_tokens([AddedToken(opening, special=special)], special_tokens=special)
        processor.chat_template = (request_ if asks else "") + processor.chat_template
        renderer = Renderer(processor)
        if special and asks:
            with pytest.raises(
                ConfigError, match=re.escape(f"asks for thoughts ('{request_}'), and '{opening}', which")
            ):
                TransformersEngine().start(tiny.model, renderer)
        else:
            TransformersEngine().start(tiny.model, renderer)


def test_a_tokenizer_without_eos(tiny: Any, llava: Any) -> None:
    processor = copy.deepcopy(tiny.renderer.processor)
    processor.tokenizer.eos_token = None
    assert Renderer(processor).end_ids == (1,)

    without = copy.deepcopy(llava.renderer.processor)
    without.tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="no special token after a response and its tokenizer has no eos_token"):
        Renderer(without)


def test_a_processor_without_chat_template(tiny: Any) -> None:
    processor = copy.deepcopy(tiny.renderer.processor)
    processor.chat_template = None
    with pytest.raises(ConfigError, match="Idefics3Processor has no chat template, so prompts cannot be rendered"):
        Renderer(processor)


def test_a_tokenizer_without_pad_token(tiny: Any) -> None:
    """Padding is masked: what it is made of changes nothing else."""
    processor = copy.deepcopy(tiny.renderer.processor)
    processor.tokenizer.pad_token = None
    prompts, responses = list(TinyDice("seed", 2)), ["red = 4", "red = 4\nAnswer: 4"]
    without, usual = (renderer.response_inputs(prompts, responses) for renderer in (Renderer(processor), tiny.renderer))
    assert torch.equal(without.inputs.mask_BT, usual.inputs.mask_BT)
    assert torch.equal(without.labels_BT, usual.labels_BT)
    real_BT = usual.inputs.mask_BT.bool()
    assert torch.equal(without.inputs.ids_BT[real_BT], usual.inputs.ids_BT[real_BT])
    assert torch.equal(without.inputs.extras["pixel_values"], usual.inputs.extras["pixel_values"])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (
            "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
            "takes the content of a turn as one text",
        ),
        ("{% for m in messages %}{{ m.content | tojson }}{% endfor %}", "takes the content of a turn as one text"),
        ("{% for m in messages %}{{ m.role + m.content }}{% endfor %}", "cannot be applied"),
        ("{% for m in messages %}{{ m.content.strip() }}{% endfor %}", "cannot be applied"),
        ("{% for m in messages %}{{ m.content }", "cannot be applied (line 1: "),
        ("{% for m in messages %}{{ m.content }}", "cannot be applied (line 1: "),
        ("{{ raise_exception('no system turn') }}", "cannot be applied (no system turn)"),
        ("{% for m in messages %}{% if m.content is string %}{{ m.content }}{% endif %}{% endfor %}", "leaves out"),
        (
            "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}"
            "{% endfor %}{% endfor %}",
            "has no place for a picture",
        ),
    ],
)
def test_a_template_that_cannot_render_prompts_is_refused_when_it_is_loaded(
    tiny: Any, template: str, said: str
) -> None:
    """Some rendered the list of parts as text ("[{'type': ..."), and the model was trained on that."""
    processor = copy.deepcopy(tiny.renderer.processor)
    processor.chat_template = template
    with pytest.raises(ConfigError, match=re.escape(said)):
        Renderer(processor)


def test_a_system_turn_is_one_text_where_the_template_wants_it_so(tiny: Any) -> None:
    """Gemma 4's wrote the list of parts down, and the model was told "[{'type': 'text', ..."."""
    given = tiny.renderer.processor
    prompt = Prompt(
        "p", "Even?", (IMAGE,), turns=(Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Ho"))
    )
    parts = "{% for p in m.content %}{{ p.text if p.type == 'text' else '<image>' }}{% endfor %}"
    for system in ("{{ m.content | trim }}", "{{ '' + m.content }}", parts):
        processor = copy.deepcopy(given)
        turn = f"{{% if m.role == 'system' %}}{system}{{% else %}}{parts}{{% endif %}}|"
        processor.chat_template = f"{{% for m in messages %}}{turn}{{% endfor %}}"
        assert Renderer(processor).render_prompt(prompt) == "Be brief.|<image>Hi|Ho|Even?|", system


def test_decoding_leaves_no_special_token(tiny: Any) -> None:
    (tokens,), _ = tiny.renderer.encode_responses(["red = 4 , really\n"])
    assert tiny.renderer.decode(tokens) == "red = 4 , really\n"
