"""The time that a watch goes by."""

import threading
import time


class Clock:
    """Seconds since the clock was made, for files also faster than they pass.

    Args:
        speed: seconds of this clock in a second. Above 1 a file is played that much faster, and pauses are that much
            shorter; a camera cannot be hurried.
    """

    def __init__(self, speed: float = 1.0):
        self._speed, self._start = speed, time.monotonic()

    def now(self) -> float:
        """Seconds since the clock was made."""
        return self._speed * (time.monotonic() - self._start)

    def unix(self) -> float:
        """Seconds since 1970; those that this clock is ahead of others count."""
        return time.time() + (self._speed - 1) * (time.monotonic() - self._start)

    def real(self, seconds: float) -> float:
        """How long that takes."""
        return max(0.0, seconds / self._speed)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for the event, at most that long; whether it came."""
        return event.wait(self.real(seconds))
