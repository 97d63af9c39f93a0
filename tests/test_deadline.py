"""Time that runs out, or never does."""

from __future__ import annotations

import time

import pytest

from reid_aug.deadline import Deadline


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves by hand, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_time_runs_out(clock):
    deadline = Deadline(2)
    assert deadline.minutes_left == 2 and not deadline.passed
    clock[0] += 119
    assert deadline.minutes_left == pytest.approx(1 / 60) and not deadline.passed
    clock[0] += 1
    assert deadline.minutes_left == 0 and deadline.passed
    clock[0] += 60
    assert deadline.minutes_left == 0 and deadline.passed


def test_no_time_at_all_is_over_at_once(clock):
    assert Deadline(0).passed


def test_none_is_never(clock):
    deadline = Deadline(None)
    clock[0] += 1e9
    assert deadline.minutes_left is None and not deadline.passed
