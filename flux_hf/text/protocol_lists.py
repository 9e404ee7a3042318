"""The lists of retrieval protocols that are no tables with a header: LSMDC, ActivityNet Captions and MSVD.

- LSMDC (`LSMDC16_challenge_1000_publictect.csv`): six fields between tabs, no header; the first is the clip, the last
  what is said. Clips lie in a folder of their film, as their authors share them.
- ActivityNet Captions (`val_1.json`): video -> {"duration", "timestamps", "sentences"}; searched as paragraphs.
- MSVD: `AllVideoDescriptions.txt`, a video and a sentence a line; `test_list.txt` beside it names the videos of a
  split.

Those of MSRVTT-1kA (`MSRVTT_JSFUSION_test.csv`), DiDeMo (`test_data.json`) and VindLU's annotations are plain tables.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from flux_hf.files import read_text, short_json

MSVD = "AllVideoDescriptions.txt"
LSMDC_FIELDS = 6


def is_protocol_list(file: Path) -> bool:
    """Whether a `.txt` file is a list of MSVD."""
    return file.suffix.lower() == ".txt" and (file.parent / MSVD).is_file()


def protocol_rows(file: Path, text: str) -> Iterator[tuple[str, dict]] | None:
    """What messages call it, and `video` with `caption` or `captions`, for every row of a list; None where the file is
    a list of another kind.

    Args:
        text: what the file holds.

    Raises:
        ValueError: a line is none of its list; names it.
    """
    if is_protocol_list(file):
        return _msvd(file, text)
    first = text.lstrip().partition("\n")[0]
    if file.suffix.lower() == ".csv" and first.count("\t") == LSMDC_FIELDS - 1:
        return _lsmdc(file, text)
    if file.suffix.lower() == ".json" and first.startswith("{"):
        return _activitynet(file, text)
    return None


def _lsmdc(file: Path, text: str) -> Iterator[tuple[str, dict]]:
    for where, line in _lines(file, text):
        fields = line.split("\t")
        if len(fields) != LSMDC_FIELDS:
            raise ValueError(f"{where}: expected {LSMDC_FIELDS} fields between tabs, got {line!r:.200}")
        film = fields[0].rpartition("_")[0]
        yield where, {"video": f"{film}/{fields[0]}", "caption": fields[-1]}


def _activitynet(file: Path, text: str) -> Iterator[tuple[str, dict]]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file} is damaged or no JSON: {error}") from None
    for video, entry in content.items():
        where = f"{file}, entry {video}"
        if not isinstance(entry, dict) or "sentences" not in entry:
            raise ValueError(f"{where}: expected an object with the sentences of a video, got {short_json(entry)}")
        yield where, {"video": video, "captions": entry["sentences"]}


def _msvd(file: Path, text: str) -> Iterator[tuple[str, dict]]:
    described = file.parent / MSVD
    captions: dict[str, list[str]] = {}
    for where, line in _lines(described, text if file == described else read_text(described)):
        video, _, sentence = line.partition(" ")
        if not sentence.strip():
            raise ValueError(f"{where}: expected a video and a sentence, got {line!r:.200}")
        captions.setdefault(video, []).append(sentence)
    wanted: Iterable[tuple[str, str]] = ((str(described), video) for video in captions)
    for where, video in wanted if file == described else _lines(file, text):
        if video not in captions:
            raise ValueError(f"{where}: {described} says nothing of {video!r:.200}")
        yield where, {"video": video, "captions": captions[video]}


def _lines(file: Path, text: str) -> Iterator[tuple[str, str]]:
    """Lines that are not empty and no comment (#), and what messages call them."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            yield f"{file}, line {number}", line.strip()
