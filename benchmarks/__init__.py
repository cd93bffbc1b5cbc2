"""Benchmarks: ``python -m benchmarks [NAME...]`` runs all, or those whose names begin so.

``python -m benchmarks keep`` takes the figures of the last run over into the documentation,
``python -m benchmarks draw`` makes its tables and drawings anew.
"""
