"""Ctrl-C before a run has begun."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130


@contextmanager
def starting() -> Iterator[None]:
    """Ctrl-C inside, while options are read and libraries imported, ends the program with code 130 and one line."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nstopped before training began, nothing was saved yet", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
