"""Worked studies of the demo: a question each, with the experiments that answer it."""
