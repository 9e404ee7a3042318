"""What a watch prints: a JSON object a line."""

import json
from dataclasses import asdict
from datetime import datetime, timezone

from flux_hf.live.reader import ConnectionChange
from flux_hf.live.watching import Answer


class AnswerLines:
    """Chooses the answers that are worth a line: the first, those with another label on top than the line before, and
    one every `every` seconds."""

    def __init__(self, every: float):
        self._every, self._last = every, None

    def line(self, answer: Answer) -> str | None:
        last = self._last
        changed = last is None or last.labels[0][0] != answer.labels[0][0]
        if not changed and answer.time - last.time < self._every:
            return None
        self._last = answer
        return _line(
            "answer",
            answer.time,
            labels=[{"label": name, "score": round(score, 4)} for name, score in answer.labels],
            changed=changed,
            token_budget=answer.token_budget,
            delay=round(answer.delay, 3),
            window=[round(answer.start, 3), round(answer.end, 3)],
            pictures=answer.pictures,
            dropped=answer.dropped,
            damaged=answer.damaged,
            connection="connected" if answer.connected else "lost",
            reconnections=answer.reconnections,
        )


def change_line(change: ConnectionChange) -> str:
    """A line for what happened to the connection."""
    said = asdict(change)
    time, state = said.pop("time"), said.pop("state")
    return _line(state, time, **{name: value for name, value in said.items() if value is not None})


def summary_line(time: float, reason: str, counts: dict[str, int]) -> str:
    """The last line: why it ended, and the numbers."""
    return _line("summary", time, reason=reason, **counts)


def _line(event: str, time: float, **values) -> str:
    when = datetime.fromtimestamp(time, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"event": event, "time": when} | values)
