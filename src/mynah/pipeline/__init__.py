"""Synthesis logic in NumPy: prompts, sampling, schedules, solvers and joins."""
