"""A Hugging Face Space: the page of `flux-hf demo`. The variable FLUX_CHECKPOINT names another checkpoint."""

import os

from flux_hf.demo.classifier import load_demo_classifier
from flux_hf.demo.serving import serve

serve(load_demo_classifier(os.environ.get("FLUX_CHECKPOINT", "default")), host="0.0.0.0", port=7860)
