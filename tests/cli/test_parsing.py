"""The parser's sentences."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mstar.cli.parsing import Parser, condense, find_mistake
from mstar.datamodules import PolicyDataModule
from mstar.errors import ConfigError
from mstar.modules import PolicyModule
from mstar.rewards import Reward


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


_OWN = """
from mstar.rewards import Reward

class Keyed(Reward):
    def __init__(self) -> None:
        self.scale = {}["scale"]

    def score(self, groups): return []

class Checked(Keyed):
    def __init__(self, size: int = 3) -> None:
        assert size % 2 == 0

class Abstract(Reward):
    def scores(self, groups): return []
"""


@pytest.fixture
def own_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parser:
    """A parser with an option for a reward, and two files of rewards."""
    (tmp_path / "faulty_rewards.py").write_text(_OWN)
    (tmp_path / "faulty_file.py").write_text("from mstar.rewards import Reward\nscale = scal\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # type: ignore[no-untyped-call]
    for name in ("faulty_rewards", "faulty_file"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    parser = Parser()
    parser.add_argument("--reward", type=Reward | None)
    return parser


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("Keyed", "KeyError: 'scale' (faulty_rewards.py, line 6)"),
        ("Checked", "AssertionError (faulty_rewards.py, line 12)"),
    ],
)
def test_an_error_in_ones_own_constructor_is_named_with_its_place(own_rewards: Parser, name: str, fault: str) -> None:
    config = own_rewards.parse_args([f"--reward=faulty_rewards.{name}"])
    with pytest.raises(ValueError, match="Does not validate") as raised:
        own_rewards.instantiate(config)
    assert str(find_mistake(raised.value)) == fault


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("faulty_file.Any", "NameError: name 'scal' is not defined (faulty_file.py, line 2)"),
        ("faulty_rewards.Abstract", "faulty_rewards.Abstract is abstract: it lacks score."),
    ],
)
def test_a_file_of_ones_own_that_fails_is_named(
    own_rewards: Parser, path: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        own_rewards.parse_args(["--reward", path])
    assert capsys.readouterr().err == f"mstar: error: reward: {fault}\n"


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
