"""Figures that anyone can repeat; threads wait as they do in a search."""

from search.thread_waiting import spin_briefly

spin_briefly()
