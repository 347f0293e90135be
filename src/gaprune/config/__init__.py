"""The options of a run: one typed object for Python, YAML and the command line.

Precedence, lowest first: the defaults stated here, the recipe file, the options given on the command line or
as Python arguments. Every default is stated here and nowhere else.
"""
