"""Where a response commits to an answer, family by family, each with what must not be read instead."""

# ruff: noqa: RUF001

from __future__ import annotations

import pytest

from mstar.grading import AnswerGrader
from mstar.types import AnswerType, Prompt, Verdict, VerdictStatus

GRADER = AnswerGrader()
ANGLES = ("36°", "54°", "72°", "108°")
NO_ANSWER = Verdict(False, None, VerdictStatus.NO_ANSWER)
CHOICE, INTEGER, TEXT = AnswerType.MULTI_CHOICE, AnswerType.INTEGER, AnswerType.TEXT


def choose(response: str, question: str = "", choices: tuple[str, ...] = ANGLES) -> str | None:
    """The option that a response is read as."""
    prompt = Prompt("p", question, answer="A", answer_type=CHOICE, choices=choices)
    return GRADER.grade(prompt, response).predicted


def count(response: str, question: str = "") -> str | None:
    """The whole number that a response is read as."""
    return GRADER.grade(Prompt("p", question, answer="0", answer_type=INTEGER), response).predicted


@pytest.mark.parametrize(
    "response",
    [
        "C", "(C)", "c)", "**C**", "C.", "(C) 72°", "C: 72°", "72°", "72 degrees", "72", "(C", "Option C", "72° (C)",
        r"\boxed{C}", r"$\boxed{\text{(C) } 72^{\circ}}$", r"\boxed{\boxed{C}}", r"\fbox{C}",
        "<answer>C</answer>", "<answer>\nThe sum is 72.\nC\n</answer>", "<answer> (C) 72° </answer>",
        "Answer: C", "**Answer:** (C)", "### Final Answer\n\n(C)", "Ans: C", "Answer C", "final answer - C",
        "The answer is C", "So the correct option is (C), since the angles add up.", "My choice: C",
        '{"answer": "C", "confidence": 0.9}', "The answer to the question is most likely C.",
        "We get 72. #### C", "#### C", "【答案】C", "【解析】所以选项D不对。【答案】：C",
        "故选：C。", "因此，正确答案是C。", "[正确答案]C<eoa>", "##答案\n\nC\n##解析\n\n本题考查角。",
        "[答案]：C", "答案：选项C", "因此，正确答案是选项C。", "所以答案是C选项。", "因此应选择选项C。",
        "**Answer:**\n- C", "The answer is:\n\n- (C) 72°",
        "That is 70.\nThe closest option is C.", "72 degrees. The nearest choice is (C).", "故填：C",
        "答案是72°，即选项 C。", "<Answer>: <<C>>",
        "<Thought process>: <<36 + 36 = 72>>\n<Answer>: <<C. 72°>>",
        "\\boxed{C}\n\n**Verification:** 36 + 36 = 72.", "Answer: C\nVerification: it is twice 36.",
        "C\n\nExplanation: B is half of it.", "C\n解析：\nA：太小。",
        "【答案】C【解析】A太小。", "【答案】：C 【分析】B不对",
        "<|start_header_id|>assistant<|end_header_id|>\n\nThe answer is C.", "<answer>\nC\n</answer>\nThat is\nall.",
        '{\n"answer": "C",\n"reasoning": "The final result is the sum of both."\n}',
        r"\[ \text{Answer: C} \]", r"\[ \text{Answer: } C \]",
        "The answer is:\n\n\\[\n\\text{C}\n\\]", "So the answer is\n$$\nC\n$$", "The answer is: \\[ (C) \\]",
        "The answer is A.\n\nThe answer is C.", "First I thought of B.\n\n72°", "It is 36 + 36.\n**72°**",
    ],
)  # fmt: skip
def test_each_form_commits(response: str) -> None:
    assert choose(response) == "C"


@pytest.mark.parametrize(
    "end",
    ["</s>", "<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<end_of_utterance>", "<end_of_turn>", "<eos>",
     "<｜end▁of▁sentence｜>", "<turn|>", "<eoa>", "<|return|>", "<|im_end|>\n<|im_start|>user\nIs it A?"],
)  # fmt: skip
def test_end_tokens_are_no_part_of_an_answer(end: str) -> None:
    assert choose(f"The answer is C{end}") == "C"
    prompt = Prompt("p", "", answer="blue")
    assert GRADER.grade(prompt, f"The answer is blue{end}") == Verdict(True, "blue", VerdictStatus.GRADED)


def test_the_box_of_special_tokens() -> None:
    assert choose("Since 180 - 108 = 72,\n<|begin_of_box|>C<|end_of_box|>") == "C"


@pytest.mark.parametrize("thought", ["<think>Perhaps A.</think>", "◁think▷The answer is A.◁/think▷", "A, no.</think>"])
def test_thoughts_do_not_count(thought: str) -> None:
    assert choose(f"{thought}\nC") == "C"


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("<think>So it is <answer>C</answer>", "C"),
        ("<think>The answer is C", None),
        ("Here is my view. <think>The answer is C", None),
    ],
)
def test_of_a_thought_without_an_end_only_an_answer_tag_counts(response: str, letter: str | None) -> None:
    assert choose(response) == letter


@pytest.mark.parametrize(
    "response",
    [
        r"1 - \frac{1}{4} = \boxed{\frac{3}{4}}, and 1/4 is left",
        r"The angle is 72°, so \boxed{A->B->C}",
        r"\boxed{All except C}",
        r"\boxed{B} or \boxed{C}",
        "The answer is C or D.",
        "The answer is C and D.",
        "Answer: none of these. The nearest is 72°",
        "72° is an option.\n\nThe answer is not C.",
        "The answer is C: 54°.",
        "(B) 72°",
        "It is 72°.\nThe answer is",
        "Put in the sum of both:\n\\frac{a}{b}=\\sqrt{(c",
        "(A) 36°\n(B) 54°\n(C) 72°\n(D) 108°",
        "The answer is C. However, it could also be D.",
        "The answer is C, but I am not sure.",
        "Answer: C\n\nWait, that is wrong.",
        "If the lines were parallel, the answer would be C.",
        "If AB = AC, the answer is C. If not, it is D.",
        "I do not think the answer is C.",
        "I cannot tell whether the answer is C.",
        "I'm not able to give an answer: the picture is missing.",
        "答案不是C",
        "Answer:\n- C\n- D",
        "For example, \\boxed{C}.\n\nI cannot see the figure clearly enough.",
        "A and D do not fit.\n(C) is eliminated.",
        "B is larger.\n(C) can be excluded.",
        "Answer: (C) possibly",
        "(C) isn't right",
        "Answer: C. Scratch that, D.",
    ],
)
def test_what_cannot_be_read_is_denied_or_holds_under_a_condition_is_no_answer(response: str) -> None:
    assert choose(response) is None


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The answer is not A; it is C.", "C"),
        ("The answer is not B but C.", "C"),
        ("The answer is A, no wait, C.", None),
        ("Not A: Incorrect\n\nAnswer: C", "C"),
        ("My first answer was A. The answer is C.", "C"),
        ("The answer is C. A common answer is B.", "C"),
        ("The answer is C. My initial answer was D.", "C"),
        ("The answer is (C). (A) has a wrong sign and (B) has none.", "C"),
        ("Answer: C\n\nThe answer is correct because the sum is 180°.", "C"),
        ("Answer: C. The answer is based on the figure.", "C"),
        ("So it is \\boxed{C}.\n\nAlternatively, we can add the angles on the other side.", "C"),
        ("So it is \\boxed{C}.\n\nAlternatively, D.", None),
        ("选项C错误，答案是选项A。", "A"),
        ("\\boxed{C}\n\nI cannot see any error in this.", "C"),
        ("Answer: (C). I cannot tell you more than that.", "C"),
        ("So it is C, that is, 72°.\n\nAnswer: 72°, with the sum in mind", "C"),
        ("#### Step 1: add the angles\n108 - 36 = 72\n\nAnswer: C\n#### Why the others fail: they are no sums", "C"),
    ],
)
def test_what_a_response_settles_on(response: str, letter: str | None) -> None:
    assert choose(response) == letter


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The answer is C.\n\nQuestion: What is 2 + 2?\nAnswer: A", "C"),
        ("C\nQ: What is 9 + 9?\nA: 18", "C"),
        ("C\n\nHuman: and now?\nAssistant: The answer is A", "C"),
        ("Answer: C\n\n### Question\nWhich one?\n\nAnswer: A", "C"),
        ("Q: 50 mC is the charge.\nSo the answer is C.", "C"),
        ("Q: -3 nC\nR: 2 cm\n\n\\boxed{C}", "C"),
        ("Question: What is the angle?\nAnswer: C", "C"),
        ("C\n\n请你回答:\n问题: 2 + 2 = ?\nA", "C"),
        ("答案: C 问题: 以下哪项最小?", "C"),
        ("Legs of each:\n- Human: 2\n- Dog: 4\nSo the answer is C.", "C"),
    ],
)
def test_a_question_of_its_own_ends_a_response_and_a_label_does_not(response: str, letter: str) -> None:
    assert choose(response) == letter


SCENES = (
    "The boats are tied up since a storm is near",
    "The boats are out at sea and the harbour is empty",
    "The boats are being painted by the people on the quay",
)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        # What a line without a word behind an answer says is nothing.
        ("C\n[", "C"),
        ("(C) The boats are being painted by the people on the quay\n---", "C"),
        # An option's line may be long, but no list of options is a choice.
        ("From the ropes and brushes in the picture:\n(C) The boats are being painted by the people on the quay.", "C"),
        ("What we can see:\n\nB. The boats are out at sea and the harbour is empty", "B"),
        (
            "(A) The boats are tied up since a storm is near\nPerhaps.\n"
            "(C) The boats are being painted by the people on the quay.",
            None,
        ),
        ("1. B 2. C 3. A", None),
        ("A: They are tied up; B: they are out at sea; C: they are being painted", None),
        ("The correct option is: A: tied up; B: out at sea; C: painted", None),
        ("Select one.\nA. They are tied up\nB. It is false that they are\nC. They are being painted", None),
        ("The quay is full.\n(C) is not right, because the boats are not painted by any of these people.", None),
    ],
)
def test_lines_of_options(response: str, letter: str | None) -> None:
    assert choose(response, choices=SCENES) == letter


@pytest.mark.parametrize("response", ["(B) {}.", "(b) {}", "The correct answer is (B) {}.", "So it is:\n(B) {}."])
def test_what_an_option_says_is_no_answer(response: str) -> None:
    choices = (
        "the answer is option B in the sketch",
        "the answer is option C in the sketch",
        "option A in the sketch is right",
    )
    assert choose(response.format(choices[1]), choices=choices) == "B"


def test_a_verb_within_a_chinese_word_states_nothing() -> None:
    assert choose("乙无权撤销甲的行为，丙有权撤销。", choices=("丙有权撤销", "乙无权撤销甲的行为")) is None


def test_a_second_option_in_brackets_is_a_second_answer() -> None:
    assert choose("Answer: B (or C)") is choose("The answer is B (maybe C).") is None
    assert choose("Answer: B (the second one)") == "B"


def test_what_is_cut_off_behind_an_answer_takes_nothing_back() -> None:
    assert choose("The answer is C.\nThe answer is") == "C"
    assert choose("The answer is C. Wait, that is wrong. The answer is") is None


def test_a_denial_is_in_the_line_of_its_marker() -> None:
    assert choose("Is it so?\n(A) True\n(B) False\n\nThe answer is:\n(A) True", choices=("True", "False")) == "A"
    assert choose("It is false that the answer is A", choices=("True", "False")) is None


@pytest.mark.parametrize(
    ("response", "number"),
    [
        ("Six rows of seats are 6 * 7 = <<6*7=42>>42 seats.\nA: 42", "42"),
        ("A: $42.", "42"),
        ("A: 42 seats\nB: 17 seats", None),
    ],
)
def test_the_label_of_one_letter_where_there_are_no_options(response: str, number: str | None) -> None:
    assert count(response) == number
    # Where there are options, it is one of them.
    assert choose("The sum of both is 72.\nA: 72") is None
    assert choose("The sum of both is 36.\nA: 36") == "A"


def test_a_restated_question_is_no_new_one() -> None:
    question = "What is the size of the angle BOC?"
    assert choose(f"Let me think.\nQuestion: {question}\nAnswer: C", question) == "C"
    assert choose(f"This is what is asked:\n\n**Question:**\n{question}\n\nAnswer: C", question) == "C"
    assert choose("Let me think.\nQuestion: How many wheels has a car?\nAnswer: C", question) is None


@pytest.mark.parametrize(
    ("response", "number"),
    [
        ("... so he has 8 bars left. #### 8", "8"),
        ("The answer is 5! That was easy.", "5"),
        ("The answer is 5!", "5"),
        ("The answer is 5!! Great.", "5"),
        ("\\boxed{5}!", "5"),
        # A factorial: of a formula, with an operator behind it, or with what is counted.
        ("\\boxed{5!}", "120"),
        ("Answer: $5!$.", "120"),
        ("Answer: 5! ways", "120"),
        ("Answer: 5! = 120", "120"),
        ("Answer: 6!/2", "360"),
        ("The answer is 5!/(2!3!).", "10"),
        ("\\boxed{\\frac{5!}{2!}}", "60"),
        ("The answer is $4! \\cdot 2$.", "48"),
        ("\\boxed{999!}", None),
        ("Answer: The perimeter is 18 cm.", "18"),
        ("Red: 2\nBlue: 3\n\nTotal = 5", "5"),
        ("2 + 3 = 5", "5"),
        ("5, because 2 + 3 = 5", "5"),
        ("> 4", None),
        ("1. Count the red ones.\n2. Count the blue ones.\n3.", None),
        ("There are 7 days in a week.\nThe range is over 2", None),
        ("The answer is 158 + LK", None),
        ("I do not have enough information about the two people.", None),
        ("The answer is 7 or 8", None),
        ("Answer: 7 (or 8)", None),
        ("The answer is 7 (maybe 8).", None),
        ("7 (perhaps 8)", None),
        ("Answer: 7 (3 + 4)", "7"),
        ("Answer: 12 (or a dozen)", "12"),
        ("The answer is 7/2 (or 3.5).", "3.5"),
        ("Answer: 60 minutes (or 1 hour)", "60"),
        ("Answer: none of the above", None),
        ("Answer: 15 pens were sold, so 15 - 6 = 9 remain.", "9"),
        ("Answer: 9 pens are left.", "9"),
        ("Answer:\n- 9", "9"),
        ("Answer:\n- The total is 9.\n- The rest is 4.", None),
        ("$BC = 4$. So the area is $9$.", "9"),
        ("$2+4=6$. Hence there are $9$ apples.", "9"),
        ("Answer:\n-9", "-9"),
        ("The answer is $9$ or $8$. It depends.", None),
        ("The answer is $9$. Alternatively, $8$.", None),
        ("Answer: 9 n", None),
        ("Answer: 2 π r", None),
        # GSM8K's mark within a sentence.
        ("Therefore, Ann needs #### 95 minutes to peel all of them.", "95"),
        ("It will cost #### $120 to paint the room.", "120"),
        ("She sits for #### 40% of the time that she has left.", "40"),
        ("So she pays #### 1,800 per year for her driving.", "1800"),
        ("Now Ann has #### 45 in her piggy bank in dollars.", "45"),
        ("Now Ann has #### 762 M&Ms in all of her bags.", None),
        ("She needs #### 5 or 6 bags of it to fill the box.", None),
        ("She needs #### 158 + LK bags of it in all of the days.", None),
        # A heading of the whole solution.
        ("Answer: The two phones cost 2 * $57 = $114 in that shop.\nTherefore, the seller gives $441 back.", None),
        ("Answer: Let us see.\n1. How many are red?\nTwo are.\n2. What is the final answer?\n764 apples.", "764"),
        ("Answer: Let us see.\n1. What is the final answer?\nTwo of us and 5 more.", None),
        ("Answer: 5 apples.\nTherefore, there are five of them.", "5"),
        # Two statements.
        ("The answer is: x is 3 and y is 5", None),
        ("\\boxed{7}, \\boxed{8}", None),
    ],
)
def test_numbers_in_forms(response: str, number: str | None) -> None:
    assert count(response) == number


@pytest.mark.parametrize("sign", [">", "<", "="])
def test_a_sign_may_be_the_answer(sign: str) -> None:
    for frame in ("Answer: {}", "故答案为：{}", "**Answer:** {}\nThe left side is 9.", "\\boxed{{{}}}"):
        assert GRADER.grade(Prompt("p", "", answer=sign, answer_type=TEXT), frame.format(sign)).correct
    assert count("**Answer:**\n\n> 8") == count("Answer => 8") == "8"


def test_a_statement_of_two_is_no_answer_and_both_may_be() -> None:
    prompt = Prompt("p", "Who is a hero, and who is an owl?", answer="Ann is a hero, and Ben is an owl.")
    assert GRADER.grade(prompt, "<answer>Ann is a hero, and Ben is a owl</answer>").correct
    assert not GRADER.grade(prompt, "<answer>Ann is an owl, and Ben is a hero</answer>").correct
    owl = Prompt("p", "Who is Ben?", answer="owl")
    assert GRADER.grade(owl, "The answer is: Ann is a hero, and Ben is an owl.").predicted is None
    assert GRADER.grade(owl, "The answer is: Ben is an owl.").correct


@pytest.mark.parametrize(
    "formula",
    [
        r"t / 3-\cos (2 t) / 5+C",
        r"a=4 ; \quad b=9",
        "R=2, I=(-3,5)",
        r"4,\!750",
        r"\sin (x+2 y)",
        "(x+5)(x-4)",
        r"\frac{1}{2} x",
    ],
)
@pytest.mark.parametrize(
    "frame",
    ["Final Answer: The final answer is ${}$. I hope it is correct.", "So it is ${}$.", "答案是${}$。因为x是正的"],
)
def test_what_stands_in_dollars_and_ends_its_sentence_is_the_answer(frame: str, formula: str) -> None:
    assert GRADER.grade(Prompt("p", "", answer=f"${formula}$"), frame.format(formula)).correct
    assert not GRADER.grade(Prompt("p", "", answer=f"${formula}$"), frame.format(f"{formula}+1")).correct


def test_bullets_below_a_heading_are_one_answer() -> None:
    metals = Prompt("p", "", answer="A, C", answer_type=AnswerType.MULTI_SELECT, choices=ANGLES)
    assert GRADER.grade(metals, "**Answer:**\n- A\n- C").correct
    assert not GRADER.grade(metals, "**Answer:**\n- A\n- C\n- D").correct
    numbers = Prompt("p", "", answer="[4, 5, 6]", answer_type=AnswerType.LIST)
    assert GRADER.grade(numbers, "Answer:\n- 4\n- 5\n- 6\nThese are all of them.").correct


@pytest.mark.parametrize(
    ("response", "read"),
    [
        ("The date on the form is 7 May 1998.", True),
        ("The form is dated 7 May 1998", True),
        ("The date that is printed at the top of this form is 7 May 1998.", True),
        ("The date on the form is 8 June 1999.", False),
    ],
)
def test_a_sentence_is_no_similar_text_however_short_it_is(response: str, read: bool) -> None:
    prompt = Prompt("p", "What is the date on the form?", answer="7 May 1998", answer_type=AnswerType.ANLS)
    assert GRADER.grade(prompt, response).correct is read


@pytest.mark.parametrize(
    "response",
    [
        "The answer is not \\boxed{8}.", "It cannot be \\boxed{8}.", "$x \\neq \\boxed{8}$",
        "\\boxed{8} is not correct.", "<answer>8</answer> is wrong.", "The answer isn't <answer>8</answer>",
        "\\boxed{8}是错误的。", "答案不是\\boxed{8}。", "I don't think the answer is \\boxed{8}.",
        "If it is to scale, it is \\boxed{8}; otherwise it is 9.",
    ],
)  # fmt: skip
def test_a_box_or_a_tag_may_be_denied(response: str) -> None:
    assert count(response, "How many sheep are there?") is None
    # Unless the question asks for what is not so.
    for question in ("How many sheep are there not?", "Which number is FALSE?", "Every number is right except which?"):
        assert count(response, question) == "8"
    assert count(response, "Another farm is denoted B. How many sheep are there?") is None


@pytest.mark.parametrize(
    "response",
    [
        "If x = 2 then the answer is \\boxed{8}.", "Since the triangle is not isosceles, the answer is \\boxed{8}.",
        "n \\neq 0, so n = \\boxed{8}.", "Is it 9 or not? \\boxed{8}", "It is not 9 but \\boxed{8}.",
        "\\boxed{8}. (9 is incorrect since it is odd.)", "\\boxed{8} is not 9, because the lamb is counted, too.",
        "Are there nine or not?\n\n\\boxed{8}",
        "If we double it, the answer is \\boxed{8}. Check: if we halve it, it is 4.",
        "If the pens are equal, the answer is \\boxed{8}; otherwise, they would not be full.",
        "<think>It is not 8? It is.</think><answer>8</answer>", "若 n=9，则不成立；否则 n=8。所以答案是 \\boxed{8}。",
        "7 is wrong, 9 is wrong as well, and so \\boxed{8} is correct.", "\\boxed{8}\n\n错误分析：没有数到小羊。",
        "The answer is \\boxed{8}, not \\boxed{9}.", "It is \\boxed{8} rather than $\\boxed{9}$.",
    ],
)  # fmt: skip
def test_what_is_denied_beside_a_box_leaves_it_the_answer(response: str) -> None:
    assert count(response, "How many sheep are there?") == "8"


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("<think>", "</think>"), ("<mm:think>", "</mm:think>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"),
        ("<|channel>thought\n", "<channel|>"), ("", "[BEGIN FINAL RESPONSE]\n"),
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ],
)  # fmt: skip
def test_thoughts_of_other_models_are_no_answer(opening: str, closing: str) -> None:
    for end in ("", "\n[END FINAL RESPONSE]\n<|end|>"):
        assert choose(f"{opening}The answer is A? No.{closing}C{end}") == "C"
        assert choose(f"{opening}The answer is A? No.{closing}The answer is C.{end}") == "C"
    if opening:
        assert choose(f"{opening}The answer is A. But let me") is None


def test_a_long_thought_that_was_never_closed_is_no_answer() -> None:
    """It was looked for in the last 24,000 characters, in which it did not begin."""
    thought = "We look at the picture again. " * 1_000
    assert choose(f"<think>\n{thought}So the answer is C.\nLet me") is None
    assert choose(f"<think>\n{thought}</think>\n\nThe answer is C.") == "C"


def test_the_gold_answer_of_a_response_is_not_looked_for_in_its_thought() -> None:
    gold = "<think>\nThe answer is 3?\nNo: one and three.\n</think>\n\n**4**"
    grade = GRADER.grade
    assert grade(Prompt("p", "How many?", answer=gold), "Answer: 4").correct
    assert not grade(Prompt("p", "How many?", answer=gold), "Answer: 3").correct


def test_arabic_signs_of_decimals_thousands_and_percent() -> None:
    for answer, response in (("3.5", "٣٫٥"), ("1200", "١٬٢٠٠"), ("50%", "٥٠٪"), ("٣٫٥", "3.5")):
        assert GRADER.grade(Prompt("p", "How many?", answer=answer), f"\\boxed{{{response}}}").correct, answer
