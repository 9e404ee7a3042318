"""Reads a stream beside everything else, late pictures left out, and takes up a connection that was lost."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import av

from flux_hf.live.clock import Clock
from flux_hf.live.ring import Ring
from flux_hf.live.streams import OpenedStream, is_camera, opened_stream, stream_name
from flux_hf.processing.video_source_fluxvit import VideoDecodeError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a lost connection is taken up; doubled each time that this did not last for `LONGEST_PAUSE`."""

LEAP = 10.0
"""Seconds between two packets of a paced stream that are a joint and not a pause."""

DEFAULT_RATE = 25.0
"""Pictures per second of a file that does not say."""

LONGEST_WAIT_FOR_KEY = 10.0
"""Seconds of packets left out after which decoding begins anew also without a key picture."""

MOST_ERRORS = 1000
"""Reads without a packet after which what comes is garbage."""

MOST_HELD = 64
"""Pictures that a decoder may hold back at the end of a file."""


@dataclass(frozen=True)
class ConnectionChange:
    """What happened to the connection.

    Attributes:
        time: seconds since 1970.
        state: "connected" or "lost".
        detail: what is connected (`640x480 h264 (rtsp)`), or why it was lost.
        pause: seconds after which the next try follows; None where none does.
    """

    time: float
    state: str
    detail: str
    pause: float | None = None


class _Arrived(NamedTuple):
    packet: object
    arrival: float


class _Waiting:
    """Packets between the thread that reads and the one that decodes. When the oldest is too old, all of them go, and
    those up to the next key picture.

    Attributes:
        dropped: how many went.
        failure: what decoding failed with.
    """

    def __init__(self, most_seconds: float):
        self._most_seconds, self._packets = most_seconds, deque()
        self._changed, self._cut = threading.Condition(), None
        self.dropped, self.failure = 0, None

    def put(self, packet, arrival: float) -> None:
        with self._changed:
            if self._packets and arrival - self._packets[0].arrival > self._most_seconds:
                self.dropped += len(self._packets)
                self._packets.clear()
                self._cut = arrival
            if self._cut is not None and packet.size:
                if not packet.is_keyframe and arrival - self._cut < LONGEST_WAIT_FOR_KEY:
                    self.dropped += 1
                    return
                self._cut = None
            self._packets.append(_Arrived(packet, arrival))
            self._changed.notify_all()

    def end(self) -> None:
        """No more are to come."""
        with self._changed:
            self._packets.append(None)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[_Arrived]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._packets)
                arrived = self._packets.popleft()
            if arrived is None:
                return
            yield arrived


class StreamReader:
    """Fills a ring from a source, in threads of its own, from `start` until `close`.

    Args:
        source: as of `watch`.
        timeout: seconds without a picture after which a connection counts as lost.
        give_up: seconds without a picture after which it is not tried any more.
        most_behind: seconds that a picture may wait for being decoded.

    Attributes:
        name: of the source, for messages.
        pictures, dropped, damaged: numbers of those decoded, of those that were left out because the machine was too
            slow, and of those that could not be decoded.
        connections: how often there was one.
        connected: whether there is one.
        changes: deque of what happened to it that nobody has taken yet.
        ended: whether nothing comes any more; `failure` says why, unless it is the end of the file.
    """

    def __init__(self, source, ring: Ring, clock: Clock, *, timeout: float, give_up: float, most_behind: float):
        self._source, self._ring, self._clock = source, ring, clock
        self._camera, self._timeout, self._give_up, self._most_behind = is_camera(source), timeout, give_up, most_behind
        self._stop, self._last_picture, self._origin, self._finite = threading.Event(), clock.now(), None, False
        self._left_out, self._waiting = 0, _Waiting(most_behind)
        self._thread = threading.Thread(target=self._run, daemon=True, name="watch: reading")
        self.name, self.changes = stream_name(source), deque()
        self.pictures = self.damaged = self.connections = 0
        self.connected = self.ended = False
        self.failure: Exception | None = None

    @property
    def dropped(self) -> int:
        return self._left_out + self._waiting.dropped

    def start(self) -> None:
        """Connect, and return when that is done.

        Raises:
            VideoDecodeError: the first try failed. No other is made.
        """
        self._last_picture = self._clock.now()
        self._thread.start()
        with self._ring.condition:
            self._ring.condition.wait_for(lambda: self.connections or self.ended)
        if not self.connections:
            raise self.failure

    def close(self) -> None:
        """Stop reading. A thread that waits for a server ends when that answers, after `timeout` at the latest."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        try:
            self._read_until_the_end()
        except Exception as error:  # whoever iterates raises it
            self.failure = error
        with self._ring.condition:
            self.ended, self.connected = True, False
            self._ring.condition.notify_all()

    def _read_until_the_end(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            begun, before = self._clock.now(), self.connections
            try:
                self._read_connection()
                if self._stop.is_set():
                    return
                if self._finite:
                    if not self.pictures:
                        raise VideoDecodeError(self.name, "no frame of it can be decoded")
                    return
                error = VideoDecodeError(self.name, "the stream ended")
            except VideoDecodeError as failed:
                error = failed
                if self.connections == 0 or self._finite:
                    raise
            now = self._clock.now()
            if self.connections > before and now - begun > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            silent = now - self._last_picture
            if silent >= self._give_up:
                self._say("lost", error.reason)
                raise VideoDecodeError(self.name, f"given up after {silent:.0f} s without a picture: {error.reason}")
            until_next = min(pause, self._give_up - silent)
            self._say("lost", error.reason, round(until_next, 3))
            self._clock.wait(self._stop, until_next)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _read_connection(self) -> None:
        with opened_stream(self._source, self._camera, self._clock.real(self._timeout)) as opened:
            self._ring.clear()
            self._left_out += self._waiting.dropped
            self._waiting = waiting = _Waiting(self._most_behind)
            self._finite, self._origin, connected = opened.finite, None, self._clock.now()
            self.connections += 1
            self._say("connected", opened.described())
            options = {"daemon": True, "name": "watch: decoding"}
            decoding = threading.Thread(target=self._decode, args=(waiting, opened), **options)
            decoding.start()
            try:
                for packet, arrival in _paced(opened, self._clock, self._stop):
                    waiting.put(packet, arrival)
                    if waiting.failure is not None:
                        raise waiting.failure
                    silent = self._clock.now() - max(connected, self._last_picture)
                    if silent > self._timeout and not opened.finite:
                        raise VideoDecodeError(self.name, f"no picture in what came for {self._timeout:g} s")
            finally:
                waiting.end()
                decoding.join()
            if waiting.failure is not None:
                raise waiting.failure

    def _decode(self, waiting: _Waiting, opened: OpenedStream) -> None:
        for packet, arrival in waiting:
            if self._stop.is_set() or waiting.failure is not None:
                continue
            try:
                for frame in self._decoded(opened.stream.codec_context, packet):
                    self._show(frame, arrival, opened)
            except Exception as error:  # the thread that reads raises it
                waiting.failure = error

    def _show(self, frame, arrival: float, opened: OpenedStream) -> None:
        stamped = opened.stamped and frame.pts is not None
        time = float(frame.pts * (frame.time_base or opened.stream.time_base)) if stamped else arrival
        self._origin = time if self._origin is None else self._origin
        self._last_picture = self._clock.now()
        self._ring.add(time - self._origin, arrival, frame)
        self.pictures += 1

    def _decoded(self, context, packet) -> list:
        """The pictures that are done after this packet, one without content being the end of a file."""
        for _ in range(1 if packet.size else MOST_HELD):
            try:
                frames = context.decode(packet if packet.size else None)
            except av.error.EOFError:
                return []
            except av.error.FFmpegError:
                self.damaged += 1
                continue
            self.damaged += sum(frame.is_corrupt for frame in frames)
            return [frame for frame in frames if not frame.is_corrupt]
        return []

    def _say(self, state: str, detail: str, pause: float | None = None) -> None:
        with self._ring.condition:
            self.connected = state == "connected"
            self.changes.append(ConnectionChange(self._clock.unix(), state, detail, pause))
            self._ring.condition.notify_all()


def _paced(opened: OpenedStream, clock: Clock, stop: threading.Event) -> Iterator[tuple]:
    """Packets of the video with the times at which they arrived, those of a paced stream when it is their time."""
    start = last = None
    rate = float(opened.stream.average_rate or opened.stream.guessed_rate or DEFAULT_RATE)
    asked = clock.now()
    for packet in _packets(opened):
        now = clock.now()
        if stop.is_set():
            return
        due = now
        if opened.paced and packet.size:
            stamp = packet.pts if packet.dts is None else packet.dts
            time = (0.0 if last is None else last + 1 / rate) if stamp is None else float(stamp * packet.time_base)
            if start is None or abs(time - last) > LEAP:
                start = now - time
            due, last = start + time, time
            if opened.network and now > due:  # what is late because the server is belongs to no backlog
                late = min(now - due, now - asked)
                start, due = start + late, due + late
            if due > now and clock.wait(stop, due - now):
                return
        yield packet, due
        asked = clock.now()


def _packets(opened: OpenedStream) -> Iterator:
    """Packets of the video, what lies between them and is none of it left out."""
    errors = 0
    while True:
        try:
            for packet in opened.container.demux(opened.stream):
                errors = 0
                yield packet
            return
        except IndexError:  # a packet of a stream that appeared while reading (PyAV 18.1)
            continue
        except av.error.InvalidDataError:
            errors += 1
            if errors > MOST_ERRORS:
                raise
