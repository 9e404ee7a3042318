"""Configuration, token selection and models. Files that ship with every saved checkpoint live here."""

import transformers  # noqa: F401 (first: its import may end with flux_hf registering the modules of this folder)
