"""Chaos: the bank under load while its processes, databases, disks and clocks fail, by a seed.

``schedule`` draws what fails when; ``town`` runs the processes of the bank, and ``ills`` does to
them what was drawn; ``crowd`` are the clients; ``books`` judges what is left when all is well.

``make chaos SEED=4711 SECONDS=30 BACKEND=postgres`` repeats a schedule: the same faults come at the
same times. How processes interleave is not repeated.
"""
