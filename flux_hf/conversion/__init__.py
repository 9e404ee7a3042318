"""Makes our checkpoints of foreign ones: official FluxViT weights as they are, other ViTs as a start for training."""

from flux_hf.conversion.convert import ConvertOptions, convert
from flux_hf.conversion.files import read_state_dict
from flux_hf.conversion.initialization import initialize_from_state_dict
from flux_hf.conversion.labels import select_classes
from flux_hf.conversion.official import convert_official_state_dict
from flux_hf.conversion.report import ConversionReport

__all__ = [
    "ConversionReport",
    "ConvertOptions",
    "convert",
    "convert_official_state_dict",
    "initialize_from_state_dict",
    "read_state_dict",
    "select_classes",
]
