"""Labels for many videos: decoding and forwards side by side, on one machine or on a cluster."""

from flux_hf.batch.labeler import VideoLabeler

__all__ = ["VideoLabeler"]
