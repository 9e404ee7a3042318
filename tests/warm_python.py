"""Python processes that begin with torch and Transformers imported, which takes a new process seconds."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER = """
import gc, json, os, sys, traceback
del sys.path[0]  # the current folder
import av, torch, torchvision
from transformers import AutoModel, AutoModelForVideoClassification, AutoVideoProcessor, pipeline
import transformers.modeling_utils, transformers.video_processing_utils

def answer(request):
    for number, (name, flags) in enumerate(zip(request["files"], (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY))):
        os.dup2(os.open(name, flags), number)
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    sys.argv = ["-c", *request["arguments"]]
    try:
        exec(request["code"], {"__name__": "__main__"})
        return 0
    except SystemExit as stop:
        if isinstance(stop.code, int | None):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    return 1

answers = os.fdopen(os.dup(1), "w")
gc.freeze()
while line := sys.stdin.readline():
    child = os.fork()
    if not child:
        code = answer(json.loads(line))
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)  # a tidy end would take seconds: it visits everything that was imported
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)
"""


class WarmPython:
    """A process that has imported torch and Transformers, but not this package, and forks for every run.

    A run has modules, memory, folder and environment of its own. What libraries read from the environment when they
    are imported (`HF_HOME`, `HF_ENDPOINT`, ...) has to be in `environment` here.
    """

    def __init__(self, environment: dict[str, str]):
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, *arguments, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
        """Run `code` with `arguments` in `sys.argv[1:]`; never raises for what the code does."""
        with tempfile.TemporaryDirectory() as folder:
            output, errors = (Path(folder, name) for name in ("output", "errors"))
            output.touch(), errors.touch()
            request = {
                "code": code,
                "arguments": [str(argument) for argument in arguments],
                "cwd": str(cwd),
                "environment": environment,
                "files": [os.devnull, str(output), str(errors)],
            }
            print(json.dumps(request), file=self.server.stdin, flush=True)
            returncode = int(self.server.stdout.readline())
            return subprocess.CompletedProcess(code, returncode, output.read_text(), errors.read_text())

    def __enter__(self) -> "WarmPython":
        return self

    def __exit__(self, *_):
        self.server.communicate()
