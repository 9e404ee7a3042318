"""Which session looks at which video, and the end of an uploaded file: with the last session that holds it."""

import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from flux_hf.demo.classifier import OpenVideo


class Uploads:
    """The open videos by session: each sees its own alone.

    Args:
        folder: what lies below it is deleted when no session looks at it any more; other files stay.
        most_sessions: that many are open, then the one that was used longest ago is closed.
    """

    def __init__(self, folder: str | Path, most_sessions: int = 64):
        self._folder = Path(folder).resolve()
        self._most_sessions = most_sessions
        self._videos: OrderedDict[str, OpenVideo] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, session: str, path: str | Path) -> OpenVideo:
        """The video of a session from now on."""
        video = OpenVideo(Path(path))
        with self._lock:
            left = [self._videos.pop(session, None)]
            self._videos[session] = video
            while len(self._videos) > self._most_sessions:
                left.append(self._videos.popitem(last=False)[1])
            self._delete(left)
        return video

    def get(self, session: str) -> OpenVideo | None:
        """The video of a session; None: it has none, or was closed."""
        with self._lock:
            if session in self._videos:
                self._videos.move_to_end(session)
            return self._videos.get(session)

    def close(self, session: str) -> None:
        """Forget a session's video, if it has one."""
        with self._lock:
            self._delete([self._videos.pop(session, None)])

    def discard(self, path: str | Path) -> None:
        """Delete an upload that no session looks at."""
        with self._lock:
            self._delete([OpenVideo(Path(path))])

    def _delete(self, videos: list[OpenVideo | None]) -> None:
        # The same file uploaded by two is one file: gradio names it by its content.
        held = {video.path.resolve() for video in self._videos.values()}
        for path in {video.path.resolve() for video in videos if video is not None} - held:
            if path.is_relative_to(self._folder):
                path.unlink(missing_ok=True)
                with suppress(OSError):  # others lie beside it
                    path.parent.rmdir()
