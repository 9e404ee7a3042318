"""Videos that come as lines of text."""

import sys
from collections.abc import Iterator


def read_lines() -> Iterator[dict]:
    """A video for every line of standard input, a path or an address; as they come.

    Raises:
        ValueError: a line is no text in UTF-8.
    """
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            path = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"standard input, line {number}: {error}; accepted is UTF-8") from None
        if path:
            yield {"path": path}
