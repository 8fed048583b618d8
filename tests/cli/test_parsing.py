"""The parser's sentences."""

from __future__ import annotations

import pytest

from mstar.cli.parsing import Parser, condense, find_mistake
from mstar.datamodules import PolicyDataModule
from mstar.errors import ConfigError
from mstar.modules import PolicyModule


def test_a_message_is_condensed_to_what_matters() -> None:
    message = (
        "Parser key \"engine\":\n  Does not validate against any of the Union subtypes\n  Subtypes: [<class 'A'>]\n"
        "  Errors:\n    - no such class\n    - Expected a <class 'NoneType'>\n  Given value type: <class 'str'>\n"
        "  Given value: B\n"
    )
    assert condense(message) == 'Parser key "engine": no such class'


def test_only_a_users_mistake_loses_its_traceback() -> None:
    assert find_mistake(ValueError("a bug")) is None
    chained = ValueError("Does not validate against any of the Union subtypes")
    chained.__cause__ = ConfigError("mend it.")
    assert find_mistake(chained) is chained.__cause__
    spoken = ValueError(
        "Does not validate against any of the Union subtypes\nErrors:\n  - Expected a <class 'float'>\n  - mend it."
    )
    assert str(find_mistake(spoken)) == "mend it."


def test_null_as_a_flag_reaches_the_classes_within_classes() -> None:
    parser = Parser()
    parser.add_subclass_arguments(PolicyDataModule, "data")
    config = parser.parse_args(
        ["--data", "mstar.datamodules.PolicyDataModule", "--data.train", "mstar.prompts.RecordPrompts",
         "--data.train.path", "rows.jsonl", "--data.train.size=null", "--data.train.image_root", "null"]
    )  # fmt: skip
    settings = config.data.init_args.train.init_args
    assert (settings.path, settings.size, settings.image_root) == ("rows.jsonl", None, None)


@pytest.mark.parametrize(
    ("options", "weight_decay"),
    [
        ([], 0.01),
        (["torch.optim.SGD"], 0.0),
        (["torch.optim.Adam"], 0.0),
        (["torch.optim.Adam", "--model.optimizer.weight_decay", "0.1"], 0.1),
    ],
)
def test_another_optimizer_takes_over_nothing_of_the_default_one(options: list[str], weight_decay: float) -> None:
    parser = Parser()
    parser.add_subclass_arguments(PolicyModule, "model")
    chosen = ["--model.optimizer", *options] if options else []
    config = parser.parse_args(["--model", "mstar.modules.PolicyModule", "--model.model_name", "a", *chosen])
    assert config.model.init_args.optimizer.init_args.weight_decay == weight_decay


def test_the_default_optimizers_arguments_need_no_class() -> None:
    parser = Parser()
    parser.add_subclass_arguments(PolicyModule, "model")
    config = parser.parse_args(
        ["--model", "mstar.modules.PolicyModule", "--model.model_name", "a", "--model.optimizer.weight_decay", "0.1"]
    )
    optimizer = config.model.init_args.optimizer
    assert (optimizer.class_path, optimizer.init_args.weight_decay) == ("torch.optim.AdamW", 0.1)


@pytest.mark.parametrize(
    ("given", "adapter"),
    [([], False), (["--adapter"], True), (["--adapter", "false"], False), (["--adapter=false", "--name=x"], False)],
)
def test_a_switch_needs_no_value(given: list[str], adapter: bool) -> None:
    def tool(name: str = "", adapter: bool = False, last: bool = False) -> None: ...

    parser = Parser()
    parser.add_function_arguments(tool, as_group=False)
    config = parser.parse_args([*given, "--last"])
    assert (config.adapter, config.last) == (adapter, True)
