"""The commands of the `canopy` program, by what they are about."""
