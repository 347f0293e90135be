"""Writing a result as an ordinary model folder, with where it came from."""
