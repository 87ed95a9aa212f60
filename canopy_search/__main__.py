"""``python -m canopy_search`` is the `canopy` command."""

from canopy_search.search.cli.main import main

main()
