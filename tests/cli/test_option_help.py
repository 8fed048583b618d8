"""Help for the options of a class that another option names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mstar.__main__ import main

TINY = str(Path(__file__).parents[2] / "configs/tiny/evolve.yaml")


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        (
            ["annotate", "--prompts", "mstar.prompts.RecordPrompts", "--prompts.fields.help"],
            ["Which column holds what.", "--prompts.fields.question QUESTION"],
        ),
        (
            ["fit", "--data=mstar.datamodules.PolicyDataModule", "--data.train", "mstar.prompts.RecordPrompts",
             "--data.train.fields.help"],
            ["--data.train.fields.answer_type ANSWER_TYPE"],
        ),
        # Which classes they are stands in the file.
        (["fit", "--config", TINY, "--data.train.help"], ["mstar.prompts.tiny_dice.TinyDice", "--data.train.split {"]),
        (["fit", "--rollout.engine.help"], ["mstar.generation.TransformersEngine"]),
        (["fit", "--rollout.engine.help", "mstar.generation.VllmEngine"], ["--rollout.engine.max_model_len"]),
        (["fit", "--rollout.selection.help=mstar.selection.Mixed"], ["--rollout.selection.weight WEIGHT"]),
        (["annotate", "--settings.help"], ["--settings.num_continuations NUM_CONTINUATIONS"]),
    ],
)  # fmt: skip
def test_the_options_behind_an_option_are_shown(
    command: list[str], lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for line in lines:
        assert line in shown


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("data.trian", "there is no option 'data.trian': 'data' is PolicyDataModule; name its class before."),
        ("nothing", "there is no option 'nothing' that takes a class; see --help."),
        ("data.train.size", "'data.train.size' is a plain value; '--data.train.help' explains it."),
    ],
)
def test_help_for_what_is_no_such_option_is_one_sentence(
    option: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", TINY, f"--{option}.help"]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"mstar fit: error: {sentence}"
