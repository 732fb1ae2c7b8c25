"""Limits of the engine, and what happens at each."""

JOURNAL_LENGTH_MAX = 1_000_000
"""Entries of one journal. At the limit the invocation is paused with a clear failure."""

INBOX_LENGTH_MAX = 100_000
"""Invocations that wait for one object key. At the limit requests are refused with 429."""

PROMISE_WAITERS_MAX = 10_000
"""Waits for one promise, all in its row. At the limit the attempt that waits once more fails."""

PROMISE_RETENTION_MS = 30 * 86_400_000
"""How long a completed promise is kept whose workflow key has no main invocation."""

OPEN_RUNS_MAX = 20_000
"""Steps of one invocation whose result is not recorded. At the limit the attempt fails."""

AWAIT_DEPTH_MAX = 100
"""Nesting of what a suspended invocation waits for. At the limit the attempt fails."""

STEP_FAILURES_MAX = 500
"""Steps of one invocation whose failures are counted at a time, all in its row. More are retried,
and counted when one of those has its result."""

OPEN_APPROVALS_MAX = 1_000
"""Approvals of one invocation that nobody has decided. At the limit the attempt fails."""

APPROVAL_BYTES_MAX = 1024 * 1024
"""Payload, form and arguments of one approval together. At the limit the attempt fails."""

DETAILS_MAX = 10_000
"""Model calls and tool calls of one invocation that are kept beside its journal. Later ones are
not."""

FAILED_DETAILS_MAX = 100
"""Failed tries of one step whose calls are kept. Later ones are not."""

CHAIN_NODES_MAX = 64
"""Nodes of a prompt that are loaded together when it is forgotten."""

STATE_VALUE_BYTES_MAX = 16 * 1024 * 1024
"""Size of one state entry. At the limit the attempt fails."""

CHUNK_SIZE_BYTES_MAX = 256 * 1024
"""Size of one chunk of a stream. At the limit the attempt fails; our SDK refuses it before."""

STREAM_CHUNKS_MAX = 1_000_000
"""Chunks of one stream. At the limit the invocation is paused with a clear failure."""

STREAM_SIZE_BYTES_MAX = 64 * 1024 * 1024
"""Size of the chunks of one stream. At the limit the invocation is paused."""

STREAMS_MAX = 64
"""Streams of one invocation. At the limit the invocation is paused."""

RESTART_LENGTH_MAX = 10_000
"""Entries of a journal of which a restart may keep some: all are read, and copied in one commit."""
