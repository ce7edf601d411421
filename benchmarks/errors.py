"""What ends a benchmark with a sentence instead of a traceback."""


class BenchmarkError(Exception):
    """Something is missing, a server does not start, or an answer is wrong."""
