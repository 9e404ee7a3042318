"""Work handed to worker processes as it comes, with answers as they come, whatever it does to them."""

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from flux_hf.processes import worker_processes

AHEAD = 4
"""Tasks for each worker that are handed out or whose answers nobody took yet."""

ENDED = "reading it ended the process that did: it crashes the decoder, or needs more memory than there is"


class Workers:
    """Processes that do `work(*arguments)`; without any it is done in this one. They begin with the first task and stay
    until `stop`.

    A task that ends its process is tried once more, alone; where it does so again, its answer is `ended`.
    """

    def __init__(self, work: Callable, num_workers: int, ended):
        self._work, self._count, self._ended = work, num_workers, ended
        self._pool = None

    def answers(self, tasks: Iterable[tuple], more: deque) -> Iterator[tuple[tuple, object]]:
        """(task, answer) in the order in which they get done.

        Args:
            tasks: (key, *arguments); taken as workers get free.
            more: further tasks; whoever takes answers may append to it, and what is in it comes first.
        """
        tasks = iter(tasks)
        if not self._count:
            while (task := _next(more, tasks)) is not None:
                yield task, self._work(*task[1:])
            return
        running: dict[Future, tuple] = {}
        while True:
            while len(running) < AHEAD * self._count and (task := _next(more, tasks)) is not None:
                running[self._submit(task)] = task
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            lost = []
            for future in done:
                task = running.pop(future)
                try:
                    answer = future.result()
                except BrokenProcessPool:
                    lost.append(task)
                else:
                    yield task, answer
            if lost:
                lost += running.values()
                running.clear()
                self.stop()
                for task in lost:
                    yield task, self._alone(task)

    def _alone(self, task: tuple):
        try:
            self._begin().submit(int).result()
        except BrokenProcessPool as error:  # the fault of no task
            raise OSError("worker processes end as soon as they begin, see above") from error
        try:
            return self._submit(task).result()
        except BrokenProcessPool:
            self.stop()
            return self._ended

    def _submit(self, task: tuple) -> Future:
        return self._begin().submit(self._work, *task[1:])

    def _begin(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = worker_processes(self._count, background=True)
            self._end = weakref.finalize(self, _end, self._pool)
        return self._pool

    def stop(self) -> None:
        """End the processes, whatever they do."""
        if self._pool is not None:
            self._end()
            self._pool = None


def _end(pool: ProcessPoolExecutor) -> None:
    # The pool itself would wait for tasks, say for a slow server.
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(cancel_futures=True)


def _next(more: deque, tasks: Iterator[tuple]) -> tuple | None:
    return more.popleft() if more else next(tasks, None)
