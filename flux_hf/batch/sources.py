"""Videos that come as lines of text."""

import os
import sys
from collections.abc import Iterator


def read_lines() -> Iterator[str]:
    """The lines of standard input, a path or an address each; as they come. Names of files are bytes: one that is not
    in UTF-8 is taken as the system has it."""
    for line in sys.stdin.buffer:
        if path := os.fsdecode(line).strip():
            yield path
