"""Each AI framework at the lowest version that we support and at the newest, in its own place.

Some frameworks need libraries that others refuse, so each row of the matrix has an environment of
its own. `python -m tests.ai.matrix` runs all rows, with names only those.
"""
