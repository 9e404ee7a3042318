"""Tables in README, docs and the model card are those of the results."""

import pytest

from flux_hf.scripts.experiments.documentation import ROOT, current, pages, tables


def test_tables_are_current():
    made = tables()
    for path in pages():
        page = path.read_text(encoding="utf-8")
        assert current(page, made) == page, f"{path.relative_to(ROOT)}: run python scripts/experiments/documentation.py"


def test_only_what_is_between_the_markers_is_replaced():
    page = "a\n<!-- table: x -->\nold\nlines\n<!-- end -->\nb\n<!-- table: y -->\n<!-- end -->\nc\n"
    written = current(page, {"x": "| 1 |", "y": "| 2 |", "z": ""})
    assert written == "a\n<!-- table: x -->\n| 1 |\n<!-- end -->\nb\n<!-- table: y -->\n| 2 |\n<!-- end -->\nc\n"
    assert current(written, {"x": "| 1 |", "y": "| 2 |"}) == written


@pytest.mark.parametrize(
    ("page", "message"),
    [("<!-- table: w -->\n<!-- end -->", "no table is called w"), ("<!-- table: x -->\n", "needs an <!-- end -->")],
)
def test_a_page_that_cannot_be_filled(page, message):
    with pytest.raises(ValueError, match=message):
        current(page, {"x": ""})
