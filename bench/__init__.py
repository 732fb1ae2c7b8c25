"""Side-by-side benchmarks of Holdfast, Restate and DBOS on one machine.

Entry point: ``python -m bench.compare`` (see :mod:`bench.compare`).
"""
