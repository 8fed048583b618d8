"""What an option takes, and which one is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

import mstar.generation  # its classes are looked up among what is imported, as in a command
import mstar.grading
import mstar.prompts
from mstar.cli.option_values import explain_missing, explain_value
from mstar.cli.parsing import Parser
from mstar.judges import StepJudge


def union(key: str, errors: list[str], value: str) -> str:
    """What jsonargparse says of an option of several types."""
    lines = "".join(f"    - {error}\n" for error in errors)
    return (
        f'Parser key "{key}":\n  Does not validate against any of the Union subtypes\n  Subtypes: [...]\n  Errors:\n'
        f"{lines}  Given value type: <class 'str'>\n  Given value: {value}"
    )


SUBCLASS = "Not a valid subclass of PromptSource\n      Subclass types expect one of:\n      - a class path (str)"


@pytest.mark.parametrize(
    ("message", "given", "sentence"),
    [
        ("Parser key \"aggregation\":\n  Expected a typing.Literal['min', 'mean', 'last']. Got value: best",
         ["fit", "--rollout.aggregation", "best"],
         "rollout.aggregation is 'best', but it takes min, mean or last."),
        (union("rollout.size", ["Expected a <class 'int'>", "Expected a <class 'NoneType'>"], "x"), ["fit"],
         "rollout.size is 'x', but it takes an integer or null."),
        (union("votes", ["Expected a typing.Literal['off', 'all']", "Expected a <class 'bool'>. Got value: x"], "x"),
         ["fit"], "votes is 'x', but it takes off or all."),
        (union("votes", ["Expected a typing.Literal['off', 'all']", "Expected a typing.Literal[False]"], "True"),
         ["fit"], "votes is 'True', but it takes off or all."),
        (union("engine", ["Expected a dot import path string: TransformersEngin"],
               "{'class_path': 'TransformersEngin', 'init_args': {}}"), ["fit", "--rollout.engine=TransformersEngin"],
         "rollout.engine is 'TransformersEngin', but it takes a class by its module and name; did you mean "
         "mstar.generation.TransformersEngine?"),
        (union("grader", ["Expected an instantiatable class, but mstar.grading.Grader is abstract"],
               "NestedArg(key='sentences', val='true')"), ["grade", "--grader.sentences", "true"],
         "grader has settings, but no class that they are of: name one by class_path, or by a flag before them "
         "(mstar.grading.AnswerGrader, mstar.grading.MathVistaGrader, mstar.judges.JudgeGrader or one of your own)."),
        (union("train", [SUBCLASS], "{'size': 3}"), ["fit", "--data.train.size=3"],
         "data.train has settings, but no class that they are of: name one by class_path, or by a flag before them."),
        (union("train", ["Expected an instantiatable class, but mstar.prompts.PromptSource is abstract"],
               "{'class_path': 'mstar.prompts.TinyDice', 'init_arg': {'size': 3}}"), ["fit", "--data.train"],
         "data.train has 'init_arg' beside class_path: the settings of a class stand below init_args."),
        ("Parser key \"rewards\":\n  Expected a typing.Literal['outcome', 'drop']. Got value: "
         "NestedArg(key='x', val='3')",
         ["fit", "--rollout.rewards.x", "3"],
         "there is no option 'rollout.rewards.x': rollout.rewards takes outcome or drop."),
        (union("selection", ["Expected a typing.Literal['top_k', 'all']", "Expected a dot import path string: top_k"],
               "NestedArg(key='x', val='3')"), ["fit", "--rollout.selection.x", "3"],
         "there is no option 'rollout.selection.x': rollout.selection takes top_k, all or a class by its module and "
         "name."),
    ],
)  # fmt: skip
def test_what_an_option_takes(message: str, given: list[str], sentence: str) -> None:
    assert explain_value(message, given) == sentence


def test_the_value_tells_which_option_is_meant(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("data: {train: {init_args: {split: pool}}, validation: {init_args: {split: pol}}}\n")
    message = "Parser key \"split\":\n  Expected a typing.Literal['seed', 'pool']. Got value: pol"
    assert explain_value(message, ["fit", "--config", str(config)]) == (
        "data.validation.split is 'pol', but it takes seed or pool."
    )


@pytest.mark.parametrize(
    ("element", "fault"),
    [
        ("source: TinyDice, weight: 2", "'source', 'weight', but no class_path: name the class that they are of."),
        (
            "class_path: TinyDice, weight: 2",
            "'weight' beside class_path: the settings of a class stand below init_args.",
        ),
    ],
)
def test_an_element_of_a_list_is_named_by_its_number(element: str, fault: str, tmp_path: Path) -> None:
    sources = tmp_path / "sources.yaml"
    sources.write_text(f"dataset: {{init_args: {{sources: [{{class_path: TinyDice}}, {{{element}}}]}}}}\n")
    message = 'Parser key "sources":\n  Expected an instantiatable class, but mstar.prompts.PromptSource is abstract'
    said = explain_value(message, ["prompts", "--sources", str(sources)])
    assert said == f"sources.dataset.sources: element 2 has {fault}"


def test_what_is_not_understood_stays_as_it_is() -> None:
    assert explain_value("Parser key \"x\":\n  Expected a <class 'int'>. Got value: y\n  because of z", ["fit"]) is None
    assert explain_value("File does not exist", ["fit"]) is None
    assert explain_missing("File does not exist", ["fit"]) is None


def test_a_missing_option_is_named_with_its_path(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        "data:\n  init_args: {train: {class_path: mstar.prompts.RecordPrompts, init_args: {path: null}}}\n"
    )
    message = "the following arguments are required: path"
    sentence = "data.train.path is missing, which RecordPrompts needs."
    assert explain_missing(message, ["fit", "--config", str(config)]) == sentence
    assert explain_missing(message, ["--train", "RecordPrompts"]) == "train.path is missing, which RecordPrompts needs."
    hints = {"judge": StepJudge | None}
    sentence = "judge.model is missing, which StepJudge needs."
    assert explain_missing("the following arguments are required: model", ["--judge.address", "x"], hints) == sentence
    message = "the following arguments are required: fit.data, fit.model"
    assert explain_missing(message, ["fit"]) == (
        "--data and --model are missing; name a configuration by --config ('mstar configs' lists those that come with "
        "mstar)."
    )
    message = "the following arguments are required: input, output"
    assert explain_missing(message, []) == "--input and --output are missing; see --help."
    assert (
        explain_missing("the following arguments are required: fit.model", ["fit"]) == "--model is missing; see --help."
    )


def test_the_parser_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser()
    parser.add_subclass_arguments(mstar.generation.TransformersEngine, "engine")
    with pytest.raises(SystemExit):
        parser.parse_args(["--engine", "mstar.generation.TransformersEngine", "--engine.max_new_tokens", "many"])
    assert capsys.readouterr().err == "mstar: error: engine.max_new_tokens is 'many', but it takes an integer.\n"
