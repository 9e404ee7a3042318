"""Options of the commands: light dataclasses, their help, and filling them from recipes and the command line.

Nothing here imports torch, Transformers or datasets before options are really parsed: `--help` is quick.
"""

from flux_hf.options.errors import check_checkpoints, naming_option, naming_split
from flux_hf.options.parsing import parse_options

__all__ = ["check_checkpoints", "naming_option", "naming_split", "parse_options"]
