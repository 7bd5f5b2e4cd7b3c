"""Hostile input, killed processes and poisoned services: three commands that must find nothing.

PYTHONPATH=tests python -m hostile.fuzz     damaged files of every format that we read
PYTHONPATH=tests python -m hostile.crash    `unetpp segment`, killed, out of space, its output removed
PYTHONPATH=tests python -m hostile.load     the listener, killed, among poisoned studies

Each prints a table and exits with 1 if anything is wrong. `known.py` lists what is known to be wrong.
"""
