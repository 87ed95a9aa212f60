"""Figures that anyone can repeat; threads wait as they do in a search."""

from canopy_search.search.openmp import spin_briefly

spin_briefly()
