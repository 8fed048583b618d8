"""Pages and tables of Markdown."""

from __future__ import annotations

from mstar.evaluation.markdown import markdown_page, markdown_table, percent_between, points_between


def test_a_share_has_its_interval_where_that_has_a_width() -> None:
    assert percent_between(0.5, 0.4, 0.6) == "50.0 (40.0-60.0)"
    assert percent_between(1.0, 1.0, 1.0) == "100.0"
    assert points_between(-0.01, -0.03, 0.01) == "-1.0 (-3.0 to +1.0)"


def test_a_name_cannot_break_its_table() -> None:
    lines = markdown_table(["group", "accuracy"], [["a|b\nc", "50.0"]])
    assert lines == ["| group | accuracy |", "| --- | ---: |", "| a\\|b c | 50.0 |"]


def test_a_page_has_its_title_its_blocks_and_its_facts() -> None:
    assert markdown_page("T", [["x", "y"]], ["one", "two"]) == "# T\n\nx\ny\n\n- one\n- two\n"
