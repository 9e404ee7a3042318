"""Videos with bits flipped, blocks lost and ends cut off: no crash, no hang, no other exception than VideoDecodeError,
and no wrong frame where a plain decode of the whole file shows the right one."""

import json

import pytest

from tests.damaged_videos import DAMAGE, KINDS, SECONDS_A_FILE

CODE = """
import sys
from pathlib import Path
from tests.damaged_videos import read_damaged
kinds, seeds, av_logging, report = sys.argv[1:]
read_damaged(kinds.split("|"), range(*map(int, seeds.split("-"))), av_logging == "on", Path(report))
"""


def report_of(python, folder, kinds, seeds, av_logging):
    done = python.run(CODE, "|".join(kinds), seeds, av_logging, folder / "report.json", cwd=folder)
    last = done.stdout.strip().splitlines()[-1:]
    assert done.returncode == 0, f"crash, or a hang of {SECONDS_A_FILE} s, at {last}:\n{done.stderr}"
    return json.loads((folder / "report.json").read_text())


def check(report, files):
    print({what: count for what, count in report.items() if what != "faults"})
    assert not report["faults"], "\n".join(report["faults"])
    assert report["read"] > 10 * files and report["refused"] < report["read"]


@pytest.mark.long
def test_damaged_videos(warm_python, tmp_path):
    """That reading ends while PyAV logs, `test_damaged_files_end_while_pyav_logs` says as quickly."""
    kinds = ["mp4, index first", "mpeg-ts", "mpeg-ps, mpeg2"]
    check(report_of(warm_python, tmp_path, kinds, "0-1", "off"), len(kinds) * len(DAMAGE))


@pytest.mark.slow
@pytest.mark.parametrize("av_logging", ["off", "on"])
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_videos(kind, av_logging, warm_python, tmp_path):
    check(report_of(warm_python, tmp_path, [kind], "1-4", av_logging), 3 * len(DAMAGE))
