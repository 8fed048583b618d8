"""The sentence tier: what a sentence without any marker states, and what states nothing."""

# ruff: noqa: RUF001

from __future__ import annotations

import pytest

from mstar.grading import AnswerGrader
from mstar.types import AnswerType, Prompt

GRADER = AnswerGrader(sentences=True)
FOODS = ("soup", "water", "sandwich", "buns")
LENGTHS = ("4cm", "6cm", "9cm", "12cm")
EFFECTS = ("it would increase", "it would decrease", "stay the same")
MODELS = ("DeepSight", "Sharp-Net", "Base", "Sharp-Net XL")


def count(question: str = "How many marbles are in the jar?") -> Prompt:
    return Prompt(id="p", question=question, answer="5", answer_type=AnswerType.INTEGER)


def choose(question: str, choices: tuple[str, ...], answer: str = "A") -> Prompt:
    return Prompt(id="p", question=question, answer=answer, answer_type=AnswerType.MULTI_CHOICE, choices=choices)


def ask(question: str) -> Prompt:
    return choose(question, ("Yes", "No"))


NUMBERS = {
    # Behind the verb.
    "The jar holds marbles. The number of marbles is 5.": "5",
    "The nail is about 5 inches long.": "5",
    "There are five marbles left in the jar.": "5",
    "There are 5 marbles left: 2 red ones and 3 blue ones.": "5",
    "12 - 7 = 5 marbles\n\nI hope this helps! Let me know if you have other questions.": "5",
    "I see the image. The jar holds **5** marbles. They are the toys of Ann.\n\nIs there anything else I can do?": "5",
    "玻璃珠的数量是5个。": "5",
    "解：12-7=5（个）\n\n所以一共有5颗玻璃珠。": "5",
    # The only number.
    "Ann can see 5 marbles.": "5",
    "Five marbles lie in the jar.": "5",
    "Because there were 12 and 7 are gone, the jar holds a total of 5 marbles.": "5",
    "Ann needs 5 to fill the jar.": "5",
    "Answer: Ann owns 9 marbles of which she lends 4 to Ben.\nTherefore, the jar of Ann holds 5 marbles.": "5",
    # Numbers that are not the answer.
    "The jar holds 5 to 7 marbles.": None,
    "The number of marbles is 5, and Ann has $2 left.": None,
    "We count 12 - 7 = 5, and from this we still take the": None,
    "The number of marbles is 5 or 6.": None,
    "The jar holds 5 marbles that are less than 9 grams.": "5",
    "Ann has 7 jars, so the number of marbles is 5.": "5",
    "There are 5 marbles with weights less than 3.": "5",
    "The jar holds more than 5 marbles.": None,
    "The jar holds 5 red and 3 blue marbles.": None,
    "Of the five jars only the last holds marbles.": None,
    "Step 5 counts the marbles.": None,
    "The first jar has 5 marbles, and the second jar has 9.": None,
    "There could be 5 marbles in the jar.": None,
    "There are not 5 marbles in the jar.": None,
    "If the jar were full, there would have been 5 marbles.": None,
    "Is the number of marbles 5?": None,
    r"The total is \frac{\sum_{i=5": None,
    # Refusals.
    "I cannot determine how many marbles the jar holds, but one side shows 5.": None,
    "I don't have enough information about the 5 marbles in the jar.": None,
    "Sorry, the jar with 5 marbles is a picture, which I do not open.": None,
}


@pytest.mark.parametrize(("response", "predicted"), NUMBERS.items())
def test_a_number_is_what_stands_behind_the_verb_or_the_only_one(response: str, predicted: str | None) -> None:
    assert GRADER.grade(count(), response).predicted == predicted


def test_a_number_of_the_question_is_stated_only_behind_a_verb() -> None:
    prompt = count("The jar has 15 marbles in 5 colours. How many marbles are there in each colour?")
    assert GRADER.grade(prompt, "The jar has marbles in 5 colours.").predicted is None
    assert GRADER.grade(prompt, "The jar has 15 and 3 marbles.").predicted is None
    assert GRADER.grade(prompt, "The number of marbles in each colour is 5.").predicted == "5"


def test_a_text_is_a_number_only_if_the_question_asks_for_one() -> None:
    asked = Prompt(id="p", question="How many cats are there?", answer="12")
    named = Prompt(id="p", question="Who won the race?", answer="Lee")
    assert GRADER.grade(asked, "The yard holds 12 cats.").correct
    assert GRADER.grade(named, "The yard holds 12 cats. They sleep.").predicted != "12"


OPTIONS = {
    # By the words.
    ("Which food has the least carbs?", FOODS): {
        "The food with the least carbs in the picture is a bowl of soup.": "A",
        "Among these, soup has the least carbs. This is because it is mostly vegetables.": "A",
        "According to the table, the buns and the sandwich have many carbs, while the soup has few.": None,
        "It is not soup.": None,
        "It is not soup, it is water.": "B",
        "The soup or the water has the least carbs.": None,
        "All of them: soup, water and buns have few.": None,
        "The food with the least carbs would be soups, and the water.": None,
        "The food with the least carbs is soup, which has less than the buns.": "A",
        "soup\n\nThe food with the least carbs is the soup.": "A",
        "soup\n\nThe food with the least carbs is the water.": None,
    },
    ("Which model has the lowest loss?", MODELS): {
        "The Sharp Net model has the lowest loss.": "B",
        "Sharp-Net XL has the lowest loss.": "D",
    },
    ("What happens to the deer if the wolves die out?", EFFECTS): {
        "If the wolves die out, the number of deer would likely increase, as nothing hunts them.": "A",
    },
    ("Which is larger, the moon or the sun?", ("moon", "sun")): {
        "The sun is larger than the moon.": "B",
        "The moon is smaller than the sun.": None,
    },
    # By the letter.
    ("How long is AB?", LENGTHS): {
        "The length is given by option B, since it is half of 12cm.": "B",
        "The triangle has a right angle, which corresponds to (C).": "C",
        "(C) is right.": "C",
        "B is the longest that fits.": "B",
        "The lengths (A) and (C) both fit.": None,
        "因此，选项D正确。": "D",
        "C. AB is half of BC.\n\nThe length of AB is 6cm.": None,
        "(A) 4cm\n(B) 6cm\n(C) 9cm\n(D) 12cm": None,
        "All of these are shorter than BC:\nThey are drawn.\n(A) 4cm\n(B) 6cm": None,
    },
    ("What is the sign of?", ("a shop for tools", "a garden for children", "a bank", "A")): {
        "The sign is of a hexagon.": None,
        "(B) The garden where children play": "B",
        "(B) A shop that sells tools": None,
        'The sign is "A" in a circle.': None,
    },
}


@pytest.mark.parametrize(
    ("question", "choices", "response", "predicted"),
    [(*key, response, predicted) for key, rows in OPTIONS.items() for response, predicted in rows.items()],
)
def test_an_option_is_named_by_its_letter_or_its_words(
    question: str, choices: tuple[str, ...], response: str, predicted: str | None
) -> None:
    assert GRADER.grade(choose(question, choices), response).predicted == predicted


def test_a_list_of_options_states_none() -> None:
    prompt = choose("Which metal rusts?", ("iron ore", "raw zinc", "pure gold", "cold lead"))
    assert GRADER.grade(prompt, "The question is: A: iron ore; B: zinc; C: gold; D: lead").predicted is None
    assert GRADER.grade(prompt, "Among A: iron ore; B: zinc; C: gold, it is iron ore.").predicted is None
    assert GRADER.grade(prompt, "It would be the iron ore.").predicted == "A"


def test_a_refusal_may_be_an_option() -> None:
    prompt = choose("Who is taller?", ("Ann", "Bob", "cannot be determined"), answer="C")
    assert GRADER.grade(prompt, "Who of them is taller cannot be determined.").correct


def test_a_negation_may_be_asked_for() -> None:
    prompt = choose("Which of these cannot be the perimeter?", ("29", "34", "38"))
    assert GRADER.grade(prompt, "The perimeter cannot be 38.").predicted == "C"


CLOSED = {
    "Is the red bar higher than the blue bar?": {
        "Yes, because it reaches 40.": True,
        "No. It reaches 30 only.": False,
        "Yes, there is no doubt.": True,
        "(C) No, the bars end alike.": False,
        "The red bar is higher than the blue bar.": True,
        "The red bar is not higher than the blue bar.": False,
        "The red bar is lower than the blue bar.": False,
        "The red bar may be higher than the blue bar.": None,
        "The green bar is higher than the blue bar.": None,
    },
    "Is red the highest?": {
        "Based on the chart, the highest is red.": True,
        "The highest is blue.": None,
        "Red is not the highest bar.": False,
        "Red was said to be the highest before the others were drawn.": None,
    },
    "Is the small box below the larger box?": {"The small box is below the larger box.": True},
    "Is red the high median?": {"The high median of red is 20.": None},
    "Is the glass half full?": {"The glass on the table is half full.": True},
    "Are there more red buses behind the car than green bikes?": {
        "There are more red buses than green bikes.": True,
        "There are more red buses.": None,
        "It rains. No, there are no green bikes behind the car.": False,
    },
    "Is this a periodic function?": {"The function f(x) = 1/x is not a periodic function.": False},
    "Are there fewer cars than buses?": {
        "In the picture, there are fewer cars than buses.": True,
        "There are more cars than buses.": False,
        "There are no cars.": None,
    },
}


@pytest.mark.parametrize(
    ("question", "response", "is_yes"),
    [(question, response, is_yes) for question, rows in CLOSED.items() for response, is_yes in rows.items()],
)
def test_a_question_is_affirmed_or_denied_in_its_own_words(question: str, response: str, is_yes: bool | None) -> None:
    assert GRADER.grade(ask(question), response).predicted == {True: "A", False: "B", None: None}[is_yes]


def test_a_chain_is_read_at_its_end() -> None:
    chain = "The jar holds 12 marbles at first. Ann takes 4 of them. Then Bob takes 3 of them. {}"
    question = "How many marbles are left in the jar?"
    assert GRADER.grade(count(question), chain.format("Therefore, they leave 5.")).predicted == "5"
    assert GRADER.grade(count(question), chain.format("The jar has 5 marbles.")).predicted == "5"
    assert GRADER.grade(count(question), chain.format("\n\nThey leave 5.")).predicted == "5"
