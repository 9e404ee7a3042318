"""Does a video-text model put facts together? Clips whose captions compose, and combinations held out of training."""
