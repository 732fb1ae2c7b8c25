from __future__ import annotations

import pytest

from holdfast.domain.errors import UsageError
from holdfast.domain.retry import OnMaxAttempts, RetrySchedule
from holdfast.server.config import ENVIRONMENT, ServerConfig, Tuning, read_tuning

DEFAULT = Tuning(None, False, True, RetrySchedule(), 1_000)


def test_an_empty_environment_leaves_the_defaults() -> None:
    assert read_tuning({}) == DEFAULT
    assert read_tuning(dict.fromkeys(ENVIRONMENT, " ")) == DEFAULT
    assert ServerConfig(**DEFAULT._asdict()) == ServerConfig()


SAID = {
    "HOLDFAST_INACTIVITY_TIMEOUT": "0s",
    "HOLDFAST_LAZY_STATE": "true",
    "HOLDFAST_PROTOCOL_V7": "false",
    "HOLDFAST_RETRY_INITIAL_INTERVAL": "PT0.1S",
    "HOLDFAST_RETRY_FACTOR": "1.5",
    "HOLDFAST_RETRY_MAX_INTERVAL": "10s",
    "HOLDFAST_RETRY_MAX_ATTEMPTS": "3",
    "HOLDFAST_RETRY_ON_MAX_ATTEMPTS": "kill",
    "HOLDFAST_CLEANUP_INTERVAL": "1m",
}
READ = Tuning(0, True, False, RetrySchedule(100, 1.5, 10_000, 3, OnMaxAttempts.KILL), 60_000)


def test_each_variable_has_two_names() -> None:
    of_restate = {ENVIRONMENT[name]: value for name, value in SAID.items()}
    assert set(SAID) == set(ENVIRONMENT)
    assert read_tuning(SAID) == READ
    assert read_tuning(of_restate) == READ
    others = dict.fromkeys(ENVIRONMENT.values(), "nonsense")
    assert read_tuning({**others, **SAID}) == READ


def test_attempts_without_limit() -> None:
    assert read_tuning({"HOLDFAST_RETRY_MAX_ATTEMPTS": "Unlimited"}).retry.max_attempts is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOLDFAST_INACTIVITY_TIMEOUT", "soon"),
        ("HOLDFAST_LAZY_STATE", "maybe"),
        ("HOLDFAST_PROTOCOL_V7", "8"),
        ("HOLDFAST_RETRY_FACTOR", "0.5"),
        ("HOLDFAST_RETRY_FACTOR", "nan"),
        ("HOLDFAST_RETRY_FACTOR", "much"),
        ("HOLDFAST_RETRY_MAX_ATTEMPTS", "0"),
        ("HOLDFAST_RETRY_MAX_ATTEMPTS", "-1"),
        ("RESTATE_DEFAULT_RETRY_POLICY__ON_MAX_ATTEMPTS", "explode"),
    ],
)
def test_nonsense_is_refused_with_the_name_of_the_variable(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is '{value}'; expected .*\[HF1204\]"):
        read_tuning({name: value})


def test_a_clean_up_without_a_pause_is_refused() -> None:
    with pytest.raises(UsageError, match="HF1204"):
        ServerConfig(cleanup_interval_ms=0)


@pytest.mark.parametrize("name", ["sql_rows_max", "sql_timeout_ms"])
def test_sql_without_room_or_time_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="HF1204"):
        ServerConfig(**{name: 0})  # type: ignore[arg-type]
