"""Files that are whole or not there, and folders that know their settings."""

import json
import re

import pytest

from flux_hf.files import claim_folder, json_lines, read_json, whole_file, write_json, write_text
from flux_hf.tables import code, code_block, markdown, percent, printable, table


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "folder" / "result.txt"
    write_text(path, "first")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as partial:
        assert partial.suffix == ".txt"
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_json_has_a_row_a_line(tmp_path):
    content = {"name": "ä", 3: {"a": [1, 2]}, "rows": [{"x": 1}, {"x": [2, 3]}], "empty": []}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == json.loads(json.dumps(content)) == read_json(tmp_path / "a.json")
    assert text.count("\n") == 9 and '  {"x": [2, 3]}\n' in text
    assert json.loads(json_lines({})) == {}


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "a.json").write_text('{"rows": [')
    with pytest.raises(ValueError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


def test_a_folder_keeps_to_its_settings(tmp_path):
    folder = tmp_path / "runs"
    assert claim_folder(folder, {"a": 1, "b": {"c": (1, 2), "d": "x" * 90}}) == folder
    (folder / "record").touch()
    claim_folder(folder, {"a": 1, "b": {"c": [1, 2], "d": "x" * 90}})
    with pytest.raises(ValueError, match=r"runs holds .* \(a: 1 there, 2 now; b.c: \[1, 2\] there"):
        claim_folder(folder, {"a": 2, "b": {"c": [1], "d": "x" * 90}})
    with pytest.raises(ValueError, match=r"runs is not empty and holds no other\.json"):
        claim_folder(folder, {}, "other.json")
    assert not claim_folder(tmp_path / "second process", {"a": 1}, write=False).exists()


def test_table():
    assert table(["a", "b"], [[1, "x"], ["2", None]], "rl") == "| a | b |\n| ---: | --- |\n| 1 | x |\n| 2 | None |"
    with pytest.raises(ValueError, match="2 columns has a row of 1"):
        table(["a", "b"], [["1"]])


def test_per_cent_does_not_hang_on_the_last_bits():
    assert percent(0.08749999999999999) == percent(0.08750000000000001) == "8.8"
    assert (percent(1), percent(0.123456)) == ("100.0", "12.3")


@pytest.mark.parametrize(
    ("text", "terminal", "page"),
    [
        ("plain, größe 👩‍👩‍👧", "plain, größe 👩‍👩‍👧", "plain, größe 👩‍👩‍👧"),
        ("a|b", "a|b", r"a\|b"),
        ("a\\|b", "a\\|b", r"a\\\|b"),
        ("one\ntwo\r\t", r"one\ntwo\r\t", r"one\\ntwo\\r\\t"),
        ("\x1b[31mred\x9b0m\x00", r"\x1b[31mred\x9b0m\x00", r"\\x1b\[31mred\\x9b0m\\x00"),
        ("\u202egnp\u2028\ud800", r"\u202egnp\u2028\ud800", r"\\u202egnp\\u2028\\ud800"),
        ("<b>*x*</b> `y` &amp;", "<b>*x*</b> `y` &amp;", r"\<b\>\*x\*\</b\> \`y\` \&amp;"),
        ("x" * 10_000, "x" * 99 + "…", "x" * 99 + "…"),
    ],
)
def test_text_of_others(text, terminal, page):
    assert printable(text) == terminal and markdown(text) == page
    lines = table(["a", "b"], [[markdown(text), 1], [text, 2]]).split("\n")
    assert len(lines) == 4 and {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines} == {3}


def test_code_in_markdown():
    assert (code("a.pth"), code("a`b``")) == ("`a.pth`", "``` a`b`` ```")
    assert code_block("a: 1", "yaml") == "```yaml\na: 1\n```"
    assert code_block("a: ````", "yaml").startswith("`````yaml\n")
