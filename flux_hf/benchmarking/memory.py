"""Peak memory of a piece of Python, in a process of its own."""

import subprocess
import sys

MEASURE = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-c", *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // (1024 if sys.platform == "darwin" else 1))
"""

READ = """
import sys
from flux_hf import FluxVideoProcessor
FluxVideoProcessor(num_frames=int(sys.argv[3]), size=224, decoding=sys.argv[2])(sys.argv[1], return_tensors="pt")
"""


def peak_kilobytes(code: str, *arguments: str) -> int:
    """Most memory that a new Python process held at once while it ran `code`, in units of 1024 bytes.

    On Linux the peak of a process begins at that of the one it was started from, so a small process starts it, not this
    one.

    Raises:
        subprocess.CalledProcessError: the code failed; its error output goes to that of this process.
    """
    command = [sys.executable, "-c", MEASURE, code, *arguments]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def memory_of_length(short: str, long: str, num_frames: int) -> list[dict]:
    """For each mode of decoding the peaks of reading a short and a long file with the processor: `decoding`,
    `num_frames`, `short_kilobytes`, `long_kilobytes` and `ratio`, long over short."""
    rows = []
    for mode in ("exact", "fast"):
        peaks = [peak_kilobytes(READ, path, mode, str(num_frames)) for path in (short, long)]
        rows.append({"decoding": mode, "num_frames": num_frames, "short_kilobytes": peaks[0]})
        rows[-1] |= {"long_kilobytes": peaks[1], "ratio": peaks[1] / peaks[0]}
    return rows
