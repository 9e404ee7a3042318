"""What a model computes with here: the type of numbers that suits the processor, or an exported file in its place."""

from flux_hf.runtime.dtype import DTYPES, choose_dtype, set_dtype
from flux_hf.runtime.onnx import OnnxClassifier

__all__ = ["DTYPES", "OnnxClassifier", "choose_dtype", "set_dtype"]
