"""Work for worker processes that ends some of them."""

import os
import signal
from pathlib import Path


def work(name: str, folder: str) -> str:
    """`name` in capitals; "poison" kills its process whenever it comes, "unlucky" when it comes for the first time."""
    seen = Path(folder, name)
    if name == "poison" or (name == "unlucky" and not seen.exists()):
        seen.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return name.upper()


def endless(name: str, folder: str) -> str:
    """`name`; but "endless" leaves the number of its process in a file, and never ends."""
    if name == "endless":
        begun = Path(folder, "begun")
        begun.write_text(str(os.getpid()))
        begun.rename(Path(folder, name))
        while True:
            signal.pause()
    return name
