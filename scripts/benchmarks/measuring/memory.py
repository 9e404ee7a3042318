"""Peaks of memory, each measured in a process of its own.

`VmHWM` of Linux, not `ru_maxrss` of getrusage: the latter begins, in a new process, at the peak of the process that
started it.
"""

import subprocess
import sys

FUNCTIONS = """
def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name + ":"))

def peak_begins_here():
    open("/proc/self/clear_refs", "w").write("5")
"""

READ = """
import sys
from flux_hf import FluxVideoProcessor
FluxVideoProcessor(num_frames=int(sys.argv[3]), size=224, decoding=sys.argv[2])(sys.argv[1], return_tensors="pt")
"""


def run_python(code: str, *arguments: str) -> str:
    """What Python code prints in a new process with `arguments` in `sys.argv[1:]`.

    Raises:
        RuntimeError: it failed; holds the last line of its error.
    """
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a process ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def peak_kilobytes(code: str, *arguments: str) -> int:
    """Highest resident memory of a new process that runs `code`. Linux only."""
    return int(run_python(f"{FUNCTIONS}\n{code}\nprint(status('VmHWM'))", *arguments).split()[-1])


def added_kilobytes(before: str, code: str, *arguments: str) -> int:
    """How far `code` raises the resident memory of a new process over what it was after `before`, at its highest.
    Linux only."""
    begin = "peak_begins_here()\nresident = status('VmRSS')"
    end = "print(status('VmHWM') - resident)"
    return int(run_python(f"{FUNCTIONS}\n{before}\n{begin}\n{code}\n{end}", *arguments).split()[-1])


def memory_of_length(short: str, long: str, num_frames: int) -> list[dict]:
    """For each mode of decoding the peaks of reading a short and a long file with the processor: `decoding`,
    `num_frames`, `short_kilobytes` and `long_kilobytes`."""
    rows = []
    for mode in ("exact", "fast"):
        peaks = [peak_kilobytes(READ, path, mode, str(num_frames)) for path in (short, long)]
        rows.append({"decoding": mode, "num_frames": num_frames})
        rows[-1] |= {"short_kilobytes": peaks[0], "long_kilobytes": peaks[1]}
    return rows
