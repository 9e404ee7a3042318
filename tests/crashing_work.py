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
