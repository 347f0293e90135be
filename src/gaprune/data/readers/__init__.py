"""Reading triplets and texts from files and the hub, one module for each format."""
