"""Worker processes: forks of one that has imported what they need, and that do not outlive who wanted them."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flux_hf.processes import worker_processes

SECONDS = 20
"""That processes have to end in. It takes them one or two, on a machine that does nothing else."""

LOADER = """
import sys, time
from multiprocessing import get_context

import psutil
from torch.utils.data import DataLoader, Dataset

from flux_hf.processes import end_with_parent

class Busy(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        pipe.send(psutil.Process().pid)
        while True:
            pass

def load():
    list(DataLoader(Busy(), num_workers=2, worker_init_fn=end_with_parent))

fork = get_context("fork")
receiving, pipe = fork.Pipe(False)
main = fork.Process(target=load)
main.start()
workers = [psutil.Process(receiving.recv()) for _ in range(2)]
main.kill()
gone, alive = psutil.wait_procs(workers, float(sys.argv[1]))
for worker in alive:
    worker.kill()
print(len(gone), len(alive))
"""

POOL = """
import os
import time

from flux_hf.processes import worker_processes

def spin(_):
    print(os.getpid(), flush=True)
    while True:
        pass

if __name__ == "__main__":
    with worker_processes(2) as pool:
        list(pool.map(spin, range(4)))
"""


def test_busy_loading_workers_end_with_a_process_that_is_killed(warm_python, tmp_path):
    done = warm_python.run(LOADER, SECONDS, cwd=tmp_path)
    assert done.stdout.split() == ["2", "0"], done.stderr


@pytest.mark.slow
def test_a_busy_pool_and_its_server_end_with_a_process_that_is_killed(tmp_path):
    (tmp_path / "pool.py").write_text(POOL)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen([sys.executable, tmp_path / "pool.py"], env=environment, stdout=subprocess.PIPE) as main:
        for _ in range(2):
            main.stdout.readline()
        processes = psutil.Process(main.pid).children(recursive=True)
        main.kill()
        _, alive = psutil.wait_procs(processes, SECONDS)
        for process in alive:
            process.kill()
    assert len(processes) == 4 and not alive  # two workers, the server, and what tracks their semaphores


def test_pools_share_what_was_imported_once():
    parents = set()
    for _ in range(2):
        with worker_processes(2) as pool:
            assert pool.submit(eval, "'flux_hf.data.clip_cache' in __import__('sys').modules").result()
            parents |= {pool.submit(os.getppid).result() for _ in range(4)}
    assert len(parents) == 1 and os.getpid() not in parents
