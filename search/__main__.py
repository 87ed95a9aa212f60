"""``python -m search`` is the `canopy` command."""

from search.cli import main

main()
