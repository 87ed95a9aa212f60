"""What `canopy doctor` checks, a file for each part of the surroundings."""
