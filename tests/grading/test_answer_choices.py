"""Multiple-choice answers as a careful person would judge them."""

# ruff: noqa: RUF001

from __future__ import annotations

import pytest

from mstar.grading import AnswerGrader
from mstar.types import AnswerType, Prompt, VerdictStatus

GRADER = AnswerGrader()

ANGLES = ("135°", "140°", "145°", "150°")
WORDS = ("larger than", "equal to", "smaller than")
LETTERS = ("c", "D", "b", "a")
NESTED = ("triangle", "right triangle", "triangular prism", "square")
NAMING = (
    "option A in the image is the answer.",
    "option B in the image is the answer.",
    "the answer is option D in the image",
    "the correct choice is option C in the image.",
)
YES_NO = ("Yes", "No")
PEOPLE = ("Alice", "Bob", "Both Alice and Bob", "None of the above")
ARTICLES = ("A cat", "A dog", "An owl", "In the air")
FRACTIONS = ("3/11", "8/11", "6/11", "3/5")
NUMBERS = ("1", "2", "3", "4", "10")
TWINS = ("7", "7", "8")


def right(gold: str, choices: tuple[str, ...], response: str, question: str = "") -> bool:
    prompt = Prompt("p", question, answer=gold, answer_type=AnswerType.MULTI_CHOICE, choices=choices)
    return GRADER.grade(prompt, response).correct


@pytest.mark.parametrize(
    ("gold", "choices", "response"),
    [
        ("145°", ANGLES, "C"),
        ("145°", ANGLES, "(C)"),
        ("145°", ANGLES, "C."),
        ("145°", ANGLES, "C)"),
        ("145°", ANGLES, "c"),
        ("145°", ANGLES, "(c)"),
        ("145°", ANGLES, "[C]"),
        ("145°", ANGLES, "**C**"),
        ("145°", ANGLES, "**(C)** 145°"),
        ("145°", ANGLES, r"\boxed{C}"),
        ("145°", ANGLES, r"$\boxed{\text{C}}$"),
        ("145°", ANGLES, r"\boxed{145^\circ}"),
        ("145°", ANGLES, r"\boxed{\text{(C) } 145^{\circ}}"),
        ("145°", ANGLES, "The answer is C"),
        ("145°", ANGLES, "The answer is (C) 145°."),
        ("145°", ANGLES, "The answer is C: 145°."),
        ("145°", ANGLES, "The correct answer is **C. 145°**"),
        ("145°", ANGLES, "C: 145°"),
        ("145°", ANGLES, "C 145°"),
        ("145°", ANGLES, "(C) 145 degrees"),
        ("145°", ANGLES, "145°"),
        ("145°", ANGLES, "145"),
        ("145°", ANGLES, "145 degrees"),
        ("145°", ANGLES, "∠BOC = 145°"),
        ("145°", ANGLES, "Option C"),
        ("145°", ANGLES, "option C is correct."),
        ("145°", ANGLES, "Choice C."),
        ("145°", ANGLES, "The correct option is C."),
        ("145°", ANGLES, "The correct option letter is C."),
        ("145°", ANGLES, "Therefore, the correct choice is (C)."),
        ("145°", ANGLES, "I would choose option C."),
        ("145°", ANGLES, "(C) is the correct answer."),
        ("145°", ANGLES, "Answer: C"),
        ("145°", ANGLES, "**Answer:** C"),
        ("145°", ANGLES, "Answer:\n\nC"),
        ("145°", ANGLES, "### Final Answer\n(C)"),
        ("145°", ANGLES, "<think>It could be A or B.</think>\nC"),
        ("145°", ANGLES, "<think>Hmm, the answer is A?</think><answer>C</answer>"),
        ("145°", ANGLES, "答案是C"),
        ("145°", ANGLES, "答案：C"),
        ("145°", ANGLES, "故选：C。"),
        ("145°", ANGLES, "因此，∠BOC＝145°，所以选C。"),
        ("145°", ANGLES, "（Ｃ）"),
        ("145°", ANGLES, "答案是145°。"),
        ("C", ANGLES, "C"),
        ("C", ANGLES, "145°"),
        ("145°", ANGLES, "The answer is A. Wait, that is wrong. The answer is C."),
        ("145°", ANGLES, "Not A, because the sum is 70°. The answer is C."),
        ("145°", ANGLES, "C, not B."),
        ("145°", ANGLES, "The answer is not B but C."),
        ("145°", ANGLES, "C because 180 - 35 = 145."),
        ("145°", ANGLES, "C. Because O lies on both bisectors, the angle is 90° + 55°."),
        ("145°", ANGLES, "C\n\nA is wrong because it forgets the half angle.\nB is wrong too."),
        ("145°", ANGLES, "Question: what is ∠BOC?\nAnswer: C"),
        ("145°", ANGLES, "The angles at B and C sum to 70°. Half of it is 35°. So ∠BOC = 180° - 35° = 145°."),
        ("145°", ANGLES, "The answer is C.\n\nQuestion: What is 2 + 2?\nAnswer: A"),
        ("145°", ANGLES, "The answer is C. I hope this helps!"),
        ("equal to", WORDS, "equal to"),
        ("equal to", WORDS, "Equal to."),
        ("equal to", WORDS, "B"),
        ("equal to", WORDS, "The derivative of f(x) at x=2 is equal to that at x=5."),
        ("equal to", WORDS, "The answer is (B) equal to"),
        ("larger than", WORDS, "It is larger than that at x=5, because the curve is steeper."),
        ("b", LETTERS, "(C)"),
        ("b", LETTERS, "(C) b"),
        ("b", LETTERS, "The answer is (C) b."),
        ("b", LETTERS, "b"),
        ("right triangle", NESTED, "The shape is a right triangle."),
        ("right triangle", NESTED, "B. right triangle"),
        ("triangle", NESTED, "triangle"),
        ("triangle", NESTED, "The figure is a triangle."),
        ("triangular prism", NESTED, "It is a triangular prism."),
        ("C", NAMING, "C"),
        ("C", NAMING, "the answer is option D in the image"),
        ("C", NAMING, "The answer is option D in the image."),
        ("C", NAMING, "(C) the answer is option D in the image"),
        ("B", NAMING, "Answer: option B in the image is the answer."),
        ("D", NAMING, "The answer is (D) the correct choice is option C in the image."),
        ("Yes", YES_NO, "Yes"),
        ("Yes", YES_NO, "Yes, Obama is older."),
        ("Yes", YES_NO, "A"),
        ("No", YES_NO, "No, it is not."),
        ("No", YES_NO, "The answer is no."),
        ("No", YES_NO, "(B) No"),
        ("Both Alice and Bob", PEOPLE, "Both Alice and Bob"),
        ("Both Alice and Bob", PEOPLE, "The answer is both Alice and Bob."),
        ("Alice", PEOPLE, "Alice is the tallest."),
        ("None of the above", PEOPLE, "D. None of the above"),
        ("A cat", ARTICLES, "A cat"),
        ("A dog", ARTICLES, "A dog"),
        ("A dog", ARTICLES, "The answer is a dog."),
        ("A dog", ARTICLES, "B. A dog"),
        ("A cat", ARTICLES, "A"),
        ("An owl", ARTICLES, "an owl"),
        ("8/11", FRACTIONS, r"\frac{8}{11}"),
        ("8/11", FRACTIONS, "The correct answer is (B) 8/11."),
        ("8/11", FRACTIONS, "8/11 of the shape is blue."),
        ("3", NUMBERS, "3"),
        ("3", NUMBERS, "C"),
        ("3", NUMBERS, "three"),
        ("10", NUMBERS, "10"),
        ("1", NUMBERS, "There is 1 red ball."),
        ("7", TWINS, "7"),
        ("7", TWINS, "A"),
        ("7", TWINS, "B"),
        ("145°", ANGLES, "`C`"),
        ("145°", ANGLES, "Final answer: $C$"),
        ("145°", ANGLES, "The best answer is C"),
        ("145°", ANGLES, "Let's check. A fails, B fails, D fails. Hence, the answer is C."),
    ],
)  # fmt: skip
def test_is_right(gold: str, choices: tuple[str, ...], response: str) -> None:
    assert right(gold, choices, response)


@pytest.mark.parametrize(
    ("gold", "choices", "response"),
    [
        ("145°", ANGLES, "B"),
        ("145°", ANGLES, "(B) 145°"),
        ("140°", ANGLES, "(B) 145°"),
        ("145°", ANGLES, "C. 140°"),
        ("145°", ANGLES, "The answer is C: 64°."),
        ("145°", ANGLES, "The answer is C or D."),
        ("145°", ANGLES, "B or C"),
        ("145°", ANGLES, "either (B) or (C)"),
        ("145°", ANGLES, "C and D"),
        ("145°", ANGLES, "C, D"),
        ("145°", ANGLES, "The answer is C. However, it could also be D."),
        ("145°", ANGLES, "(A) 135° (B) 140° (C) 145° (D) 150°"),
        ("135°", ANGLES, "(A) 135° (B) 140° (C) 145° (D) 150°"),
        ("150°", ANGLES, "(A) 135°\n(B) 140°\n(C) 145°\n(D) 150°"),
        ("150°", ANGLES, "A. 135°\nB. 140°\nC. 145°\nD. 150°"),
        ("135°", ANGLES, "Answer:\n(A) 135°\n(B) 140°\n(C) 145°\n(D) 150°"),
        ("145°", ANGLES, "The answer is"),
        ("145°", ANGLES, "The answer is not C."),
        ("145°", ANGLES, "not C"),
        ("145°", ANGLES, "C is wrong."),
        ("145°", ANGLES, "The answer cannot be determined."),
        ("145°", ANGLES, ""),
        ("145°", ANGLES, "   \n"),
        ("145°", ANGLES, "144.9°"),
        ("145°", ANGLES, "145 cm"),
        ("145°", ANGLES, "1450"),
        ("145°", ANGLES, "-145°"),
        ("145°", ANGLES, "The answer is C. Wait, that is wrong. The answer is A."),
        ("145°", ANGLES, "The answer is B.\n\nQuestion: Which letter comes after B?\nAnswer: C"),
        ("145°", ANGLES, "B\n\nHuman: and now?\nAssistant: The answer is C"),
        ("145°", ANGLES, "<think>The answer is C"),
        ("145°", ANGLES, "To find the angle we first note that the sum of the angles at B and C is 70°, then"),
        ("145°", ANGLES, "E"),
        ("145°", ANGLES, "All of them."),
        ("145°", ANGLES, "I cannot see the image."),
        ("145°", ANGLES, "答案是B"),
        ("145°", ANGLES, "答案不是C"),
        ("145°", ANGLES, r"\boxed{B}"),
        ("145°", ANGLES, r"\boxed{B} or \boxed{C}"),
        ("equal to", WORDS, "not equal to"),
        ("equal to", WORDS, "larger than or equal to"),
        ("equal to", WORDS, "(A) equal to"),
        ("smaller than", WORDS, "It is larger than that at x=5."),
        ("b", LETTERS, "(B)"),
        ("a", LETTERS, "(A)"),
        ("b", LETTERS, "(C) a"),
        ("D", LETTERS, "(D)"),
        ("triangle", NESTED, "right triangle"),
        ("right triangle", NESTED, "triangle"),
        ("triangle", NESTED, "It is a triangular prism."),
        ("D", NAMING, "the answer is option D in the image"),
        ("D", NAMING, "The answer is option D in the image."),
        ("A", NAMING, "Answer: option B in the image is the answer."),
        ("Yes", YES_NO, "No"),
        ("Yes", YES_NO, "Yes or no"),
        ("No", YES_NO, "I do not know."),
        ("Alice", PEOPLE, "Both Alice and Bob"),
        ("Alice", PEOPLE, "Alice or Bob"),
        ("Bob", PEOPLE, "Alice is taller than Bob."),
        ("A dog", ARTICLES, "A cat"),
        ("A cat", ARTICLES, "A dog"),
        ("A cat", ARTICLES, "A bird"),
        ("3", NUMBERS, "A"),
        ("1", NUMBERS, "10"),
        ("4", NUMBERS, "3 or 4"),
        ("4", NUMBERS, "There are 3 red and 4 blue balls."),
        ("8", TWINS, "7"),
        ("145°", ANGLES, "{" * 1000),
        ("145°", ANGLES, "A, B, C, D"),
        ("145°", ANGLES, "Let me consider each option. (A) is too small. (B) is too small. (C)"),
        ("145°", ANGLES, "It might be C, but I am leaning towards B. The answer is B."),
        ("145°", ANGLES, "If the answer is C, then x would be 35."),
    ],
)  # fmt: skip
def test_is_not_right(gold: str, choices: tuple[str, ...], response: str) -> None:
    assert not right(gold, choices, response)


@pytest.mark.parametrize("gold", [None, "", "E", "64°"])
def test_a_gold_answer_that_is_no_option_is_told_and_the_vote_kept(gold: str | None) -> None:
    prompt = Prompt("p", "q", answer=gold, answer_type=AnswerType.MULTI_CHOICE, choices=ANGLES)
    verdict = GRADER.grade(prompt, "The answer is 145°")
    assert verdict.status is VerdictStatus.UNGRADEABLE_GOLD
    assert not verdict.correct
    assert verdict.predicted == "C"


def test_an_option_may_say_that_nothing_is_known() -> None:
    options = ("12", "13", "cannot be determined")
    assert right("C", options, "The answer is cannot be determined.")
    assert not right("A", options, "The answer is cannot be determined.")


def test_letters_are_graded_without_the_options() -> None:
    assert right("B", (), "The answer is (B) 64°.")
    assert not right("B", (), "The answer is (C) 64°.")


def test_a_restated_question_is_no_new_one() -> None:
    question = "What is the size of the angle BOC?"
    assert right("C", ANGLES, f"Let me think.\nQuestion: {question}\nAnswer: C", question)
    assert not right("C", ANGLES, "Let me think.\nQuestion: How many wheels has a car?\nAnswer: C", question)


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("Options A and B are correct.", None),
        ("The drawing marks four places with the letters A, B, C and D.", None),
        ("I would take option A or B.", None),
        ("Options A, B and D are wrong.", None),
        ("Options A, B and D are wrong, so it is C.", "C"),
        ("The options A, B are impossible; the answer is option C.", "C"),
    ],
)
def test_reads_all_the_letters_that_are_joined_to_a_label(response: str, letter: str | None) -> None:
    prompt = Prompt("p", "", answer="135°", answer_type=AnswerType.MULTI_CHOICE, choices=ANGLES)
    assert GRADER.grade(prompt, response).predicted == letter


@pytest.mark.parametrize(
    ("question", "response", "gold"),
    [
        ("Is the map (g: Q to Q) injective?", "The map (g: Q to Q) is not injective.", "No"),
        ("Is the map (g: Q to Q) injective?", "The map (g: Q to Q) is injective.", "Yes"),
        ("Is the map injective?", "The map (the blue one) is not injective.", "No"),
    ],
)
def test_a_statement_repeats_the_brackets_of_its_question(question: str, response: str, gold: str) -> None:
    assert right(gold, YES_NO, response, question)
    assert not right("Yes" if gold == "No" else "No", YES_NO, response, question)


def test_a_statement_about_another_thing_in_brackets_affirms_nothing() -> None:
    question, response = "Is Plan Z (new) cheaper than Plan Z (old)?", "Plan Z (old) is cheaper than Plan Z (new)."
    assert not right("Yes", YES_NO, response, question)
