"""Measures the service beside what people use instead, in one run: `python -m benchmarks`."""
