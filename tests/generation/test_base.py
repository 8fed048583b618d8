"""Seeds, planned samples, and when cut-off responses are worth a word."""

from __future__ import annotations

from mstar.generation import Sample, derive_seed, plan_samples
from mstar.generation.base import explain_cut_off


def test_seeds_are_the_same_on_every_machine() -> None:
    # The first eight bytes of BLAKE2b over the parts, little-endian, without the lowest bit.
    assert derive_seed(0, "rollout/3", "seed-0-17", 2) == 2986200079822965417


def test_every_part_and_its_place_count() -> None:
    seeds = [
        derive_seed(0, "rollout/0", "p", 0),
        derive_seed(1, "rollout/0", "p", 0),
        derive_seed(0, "rollout/1", "p", 0),
        derive_seed(0, "rollout/0", "q", 0),
        derive_seed(0, "rollout/0", "p", 1),
        derive_seed("ab", "c"),
        derive_seed("a", "bc"),
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_sample_is_the_same_whatever_else_is_planned() -> None:
    few = plan_samples(7, "rollout/1", "p", 2, 0.9)
    many = plan_samples(7, "rollout/1", "p", 8, 0.9)
    later = plan_samples(7, "rollout/1", "p", 4, 0.9, first_index=4)
    assert many[:2] == few
    assert many[4:] == later
    assert [sample.index for sample in later] == [4, 5, 6, 7]
    assert few[1] == Sample(1, 0.9, derive_seed(7, "rollout/1", "p", 1))
    assert len({sample.seed for sample in many}) == 8


def test_half_of_the_responses_cut_off_is_not_most() -> None:
    assert explain_cut_off(1, 2, 40, "x") is explain_cut_off(0, 0, 40, "x") is None
    explained = explain_cut_off(600, 1000, 40, "x")
    assert explained is not None
    assert explained.startswith("600 of 1,000 responses were cut off at 40 tokens: raise x (or")
