"""Video data sets: loading them through `datasets` and caching their decoded clips."""

from flux_hf.data.clip_cache import CachedClips, cache_clips
from flux_hf.data.loading import load_video_dataset

__all__ = ["CachedClips", "cache_clips", "load_video_dataset"]
