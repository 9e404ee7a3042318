"""Worker processes: forks of one that has imported what they need."""

import os

from flux_hf.processes import worker_processes


def test_pools_share_what_was_imported_once():
    parents = set()
    for _ in range(2):
        with worker_processes(2) as pool:
            assert pool.submit(eval, "'flux_hf.data.clip_cache' in __import__('sys').modules").result()
            parents |= {pool.submit(os.getppid).result() for _ in range(4)}
    assert len(parents) == 1 and os.getpid() not in parents
