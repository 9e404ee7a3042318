import transformers  # noqa: F401 (first: its import may end with flux_hf registering the modules of this folder)

from .video_processing_fluxvit import FluxVideoProcessor as FluxVideoProcessor
from .video_source_fluxvit import VideoDecodeError as VideoDecodeError
