"""``python -m gemlet`` is ``gemlet``."""

from gemlet.cli import main

main()
