"""The verbs as commands. Exit codes: 0 done, 2 the input is wrong, 130 interrupted, 1 a fault of ours."""
