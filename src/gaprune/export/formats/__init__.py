"""The formats of ``gaprune export``: one file for each, found by the registry."""
