"""Options of the commands: light dataclasses, their help, and filling them from recipes and the command line.

Nothing here imports torch, Transformers or datasets before options are really parsed: `--help` is quick.
"""

from flux_hf.options.budgets import BUDGET, check_budgets
from flux_hf.options.decoding import decoding_option, decoding_setting
from flux_hf.options.dtype import DTYPES, dtype_option
from flux_hf.options.errors import (
    check_at_least,
    check_checkpoints,
    check_each_once,
    check_output,
    check_paths,
    naming_option,
    naming_split,
)
from flux_hf.options.parsing import parse_options

__all__ = [
    "BUDGET",
    "DTYPES",
    "check_at_least",
    "check_budgets",
    "check_checkpoints",
    "check_each_once",
    "check_output",
    "check_paths",
    "decoding_option",
    "decoding_setting",
    "dtype_option",
    "naming_option",
    "naming_split",
    "parse_options",
]
