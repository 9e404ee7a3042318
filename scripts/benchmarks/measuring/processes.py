"""CPU time of whole processes."""

import os
import subprocess


def cpu_seconds(command: list[str]) -> float:
    """Seconds of processor time, user and system, of a new process that runs `command`, and of its children.

    Raises:
        RuntimeError: it failed; holds the last line of its error.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {error.strip().splitlines()[-1:]}")
    return usage.ru_utime + usage.ru_stime
