"""Progress bars of loading and saving: shown for what comes from the Hub, not for folders that are here."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers.utils import logging


@contextmanager
def no_bars_for_folders(*sources: str | None) -> Iterator[None]:
    """Inside, `datasets` and Transformers show no bars, if all `sources` (None: none) are paths that exist. Bars of
    training and of decoding stay."""
    switches = [(logging.is_progress_bar_enabled, logging.disable_progress_bar, logging.enable_progress_bar)]
    if datasets := sys.modules.get("datasets"):  # whose import takes long, and which a model alone does not need
        switches.append(
            (datasets.is_progress_bar_enabled, datasets.disable_progress_bars, datasets.enable_progress_bars)
        )
    local = all(source is None or Path(source).exists() for source in sources)
    changed = [(off, on) for enabled, off, on in switches if local and enabled()]
    for off, _ in changed:
        off()
    try:
        yield
    finally:
        for _, on in changed:
            on()
