"""Tests: one file per module, end-to-end tests beside them."""
