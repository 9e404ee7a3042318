"""Worker processes for work that does not fit one."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def worker_processes(num_workers: int | None = None) -> ProcessPoolExecutor:
    """A pool of `num_workers` processes, default one per core.

    They are forked from a server that has imported what decodes: new processes would each do so for seconds, forks
    of this one would inherit its threads. The server stays, so that a later pool begins at once.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(["flux_hf.data.clip_cache"])
    return ProcessPoolExecutor(num_workers, mp_context=context)
