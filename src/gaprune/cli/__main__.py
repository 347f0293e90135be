"""``python -m gaprune.cli``, for launchers that start a module."""

from gaprune.cli import main

main()
