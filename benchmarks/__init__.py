"""Baton against plain Celery on the machine at hand: `python -m benchmarks` or `make bench`.

Both sides run in turn in one process (A B A B ...), each with its own servers and its own worker process, so that
what else the machine does falls on both: the ratios count, the figures do not.
"""
