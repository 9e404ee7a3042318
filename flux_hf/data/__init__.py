"""Video data sets: loading them through `datasets`, reading their clips, caching them decoded."""

from flux_hf.data.clip_cache import CachedClips, cache_clips
from flux_hf.data.clip_source import VideoRows, clip_source
from flux_hf.data.label_names import read_label_names
from flux_hf.data.list_files import MissingSplitError
from flux_hf.data.loading import load_video_dataset

__all__ = [
    "CachedClips",
    "MissingSplitError",
    "VideoRows",
    "cache_clips",
    "clip_source",
    "load_video_dataset",
    "read_label_names",
]
