"""Where workers run: on this machine, or where an engine such as Ray or SLURM places them."""
