"""Limits of the engine, and what happens at each."""

JOURNAL_LENGTH_MAX = 1_000_000
"""Entries of one journal. At the limit the invocation is paused with a clear failure."""

INBOX_LENGTH_MAX = 100_000
"""Invocations that wait for one object key. At the limit requests are refused with 429."""

OPEN_RUNS_MAX = 20_000
"""Steps of one invocation whose result is not recorded. At the limit the attempt fails."""
