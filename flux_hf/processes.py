"""Worker processes for work that does not fit one, which end when the one that wanted it does."""

import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection, forkserver, get_context, parent_process

DATA, DECODING = "flux_hf.data.clip_cache", "flux_hf.batch.decoding"
"""Modules with what workers need. Only those of the first pool in a process are imported once for all workers."""


def worker_processes(num_workers: int | None = None, *, background: bool = False) -> ProcessPoolExecutor:
    """A pool of `num_workers` processes, default one per core.

    They are forked from a server that has imported what decodes: new processes would each do so for seconds, forks
    of this one would inherit its threads. The server stays, so that a later pool begins at once. Killing this process
    ends all of them.

    Args:
        background: for decoding beside forwards. Each process computes on one thread and gives way to this one, which
            alone hears Ctrl-C.
    """
    context = _server_context(DECODING if background else DATA)
    begin = _work_in_background if background else end_with_parent
    return ProcessPoolExecutor(num_workers, mp_context=context, initializer=begin)


def begin_worker_server() -> None:
    """Let the server of background workers import what it needs while this process does something else."""
    _server_context(DECODING)
    forkserver.ensure_running()


def _server_context(preload: str):
    context = get_context("forkserver")
    context.set_forkserver_preload([preload])
    return context


def _work_in_background() -> None:
    import torch

    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    os.nice(5)


def end_with_parent(*_) -> None:
    """End this worker process, whatever it does, when the process that started it is no more. Initializer of a pool;
    as `worker_init_fn` of a `DataLoader` it takes the number of the worker."""
    parent = parent_process()

    def watch():
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end with parent").start()
