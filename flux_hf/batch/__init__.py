"""Labels for many videos: decoding and forwards side by side, on one machine or on a cluster."""

__all__ = ["VideoLabeler"]


def __getattr__(name: str):
    if name == "VideoLabeler":  # not before it is asked for: worker processes of this package decode and need no model
        from flux_hf.batch.labeler import VideoLabeler

        return VideoLabeler
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
