"""Measuring: a model's speed, the machine's ceilings, and other runtimes beside gemlet."""
