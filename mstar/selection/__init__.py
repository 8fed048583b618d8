"""Stage 4, what is learned from: which responses are kept, how much a prompt counts, what a vote decides.

rules.py        which of a prompt's right responses are kept: one class a rule
balance.py      how much is learned from easy and from hard prompts
voting.py       the answers of unlabelled prompts
advantages.py   what each sample is worth, for methods that learn from all of them
"""

from mstar.selection.advantages import Advantages, PolicyGradient, SampleMethod, StepRewards, learns_from_all
from mstar.selection.balance import Balance, pass_rate
from mstar.selection.rules import (
    COUNTING,
    RULES,
    All,
    Consistency,
    Likelihood,
    Mixed,
    Oracle,
    Random,
    RuleName,
    SelectionRule,
    Selector,
    Threshold,
    TopK,
)
from mstar.selection.voting import Voting

__all__ = [
    "COUNTING",
    "RULES",
    "Advantages",
    "All",
    "Balance",
    "Consistency",
    "Likelihood",
    "Mixed",
    "Oracle",
    "PolicyGradient",
    "Random",
    "RuleName",
    "SampleMethod",
    "SelectionRule",
    "Selector",
    "StepRewards",
    "Threshold",
    "TopK",
    "Voting",
    "learns_from_all",
    "pass_rate",
]
