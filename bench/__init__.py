"""Benchmarks of the framework and its peers, interleaved in one run: ``make bench``."""
