"""Benchmarks: ``python -m benchmarks [NAME...]`` runs all, or those whose names begin so."""
