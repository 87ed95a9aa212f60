"""What `canopy init` read, as a page of pictures: a few of each label, counts, what is left out."""
