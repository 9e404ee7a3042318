"""Commands: one thin file each, run as ``flux-hf NAME``, ``python scripts/NAME.py`` or ``accelerate launch``."""
