"""Watching a camera, a stream or a file that is played in real time."""

from flux_hf.live.clock import Clock
from flux_hf.live.reader import ConnectionChange
from flux_hf.live.watching import Answer, Watching, watch

__all__ = ["Answer", "Clock", "ConnectionChange", "Watching", "watch"]
