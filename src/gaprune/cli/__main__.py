"""``python -m gaprune.cli``, for launchers that start a module."""

from gaprune.cli.app import main

main()
