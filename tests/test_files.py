"""Files that are whole or not there, and folders that know their settings."""

import json
import os
import platform
import re
import signal
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flux_hf.files import (
    claim_folder,
    json_lines,
    read_json,
    read_tensors,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)
from flux_hf.tables import code, code_block, markdown, percent, printable, table
from tests.full_disk import files_of_at_most


def test_a_file_is_whole_or_not_there(tmp_path):
    path = tmp_path / "folder" / "result.txt"
    write_text(path, "first")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as partial:
        assert partial.suffix == ".txt"
        partial.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_whole_or_not_there(tmp_path):
    folder = tmp_path / "new" / "model"
    with pytest.raises(KeyboardInterrupt), whole_folder(folder) as partial:
        (partial / "config.json").write_text("half")
        raise KeyboardInterrupt
    assert not contents(tmp_path) and not folder.exists()
    with whole_folder(folder) as partial:
        (partial / "config.json").write_text("1")
        (partial / "below").mkdir()
        (partial / "below" / "a").write_text("1")
        assert not folder.exists()
    assert contents(tmp_path / "new") == {"model/config.json": "1", "model/below/a": "1"}


def test_in_a_folder_that_is_there_files_are_replaced_the_last_one_last(tmp_path, monkeypatch):
    written = {"config.json": "1", "below/a": "1", "mine": "1"}
    for name, content in written.items():
        write_text(tmp_path / name, content)
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path) as partial:
        (partial / "config.json").write_text("2")
        raise KeyboardInterrupt
    assert contents(tmp_path) == written
    order, replace = [], os.replace

    def noting(source, target):
        order.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", noting)
    with whole_folder(tmp_path) as partial:
        for name in ("config.json", "weights", "below/a"):
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_text("2")
    assert contents(tmp_path) == {"config.json": "2", "weights": "2", "below/a": "2", "mine": "1"}
    assert order[-1] == "config.json" and len(order) == 3


def test_what_a_process_of_the_same_number_left_is_not_published(tmp_path):
    with whole_folder(tmp_path) as partial:
        pass
    partial.mkdir()
    (partial / "half").write_text("half")
    with whole_folder(tmp_path) as again:
        (again / "config.json").write_text("1")
    assert again == partial and contents(tmp_path) == {"config.json": "1"}


def killed_while_writing(folder: Path, of_folder: bool) -> None:
    with (whole_folder if of_folder else whole_file)(folder / "result.txt") as partial:
        (partial / "a" if of_folder else partial).write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_killed_processes_left_is_removed_by_the_next_one(tmp_path):
    host, earlier = platform.node(), get_context("fork").Process(target=int)
    earlier.start()
    earlier.join()
    gone = [f".a.{earlier.pid}.partial", f".a.b.{host}-{earlier.pid}.partial.json"]
    stay = [f".a.{os.getppid()}.partial", f".a.{host}-{os.getppid()}.partial.npy", f".a.other-{earlier.pid}.partial"]
    stay += [".a.partial", f"a.{earlier.pid}.partial"]
    for name in (*gone, *stay):
        (tmp_path / name).touch()
    for of_folder in (True, False):
        process = get_context("fork").Process(target=killed_while_writing, args=(tmp_path, of_folder))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    left = {path.name for path in tmp_path.iterdir()} - set(stay)
    assert left == {f".result.{host}-{process.pid}.partial.txt"}  # the second has removed what the first one left
    write_text(tmp_path / "other.txt", "")
    assert {path.name for path in tmp_path.iterdir()} == {"other.txt", *stay}


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(bytes(100_000)),
        lambda path: torch.save(torch.zeros(100_000), path),
        lambda path: save_file({"a": torch.zeros(100_000)}, path),
    ],
    ids=["Python", "PyTorch", "safetensors"],
)
def test_a_full_disk_names_the_file_whoever_writes(tmp_path, write):
    (tmp_path / "a.bin").write_text("before")
    with pytest.raises(OSError, match=r"a\.bin cannot be written: .* MB are free"):
        with whole_file(tmp_path / "a.bin") as partial, files_of_at_most(1000):
            write(partial)
    assert contents(tmp_path) == {"a.bin": "before"}
    with pytest.raises(RuntimeError, match="mine"), whole_file(tmp_path / "a.bin"):
        raise RuntimeError("mine")


def test_tensors_that_are_damaged_are_named(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(3)}, path)
    assert read_tensors(path)["a"].tolist() == [1, 1, 1]
    for content in (b"", path.read_bytes()[:-1]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.safetensors is damaged"):
            read_tensors(path)


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
    (folder / "settings.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"settings\.json is damaged"):
        claim_folder(folder, {})
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
