"""Exported models in the runtimes they were exported for."""
