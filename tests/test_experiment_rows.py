"""Result files to which several commands add rows."""

import pytest

from flux_hf.files import read_json
from flux_hf.scripts.experiments.rows import finished_rows, write_rows


def test_rows_are_sorted_below_every_command_that_added_some(tmp_path):
    output, settings = tmp_path / "rows.json", {"clips": "abc", "sides": (1, 2)}
    assert finished_rows(output, settings) == []
    for command, seed in (("go --seed 2", 2), ("go --seed 1", 1), ("go --seed 2", 3)):
        head = {"command": command, "date": "today"}
        write_rows(output, settings, [*finished_rows(output, settings), {"seed": seed}], head, lambda row: row["seed"])
    assert finished_rows(output, settings) == [{"seed": 1}, {"seed": 2}, {"seed": 3}]
    assert read_json(output)["command"] == "go --seed 2 && go --seed 1"
    assert read_json(output)["date"] == "today"


def test_rows_of_other_settings_are_not_gone_on_with(tmp_path):
    output = tmp_path / "rows.json"
    write_rows(output, {"clips": "abc"}, [{"seed": 0}], {"command": "go"}, lambda row: row["seed"])
    with pytest.raises(ValueError, match="rows.json has rows of other clips.* name another --output"):
        finished_rows(output, {"clips": "other"})
