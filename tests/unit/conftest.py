"""An LLM provider for each module that asks for one, and Hypothesis without clocks: how long an example takes
says something of the machine, not of the code."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.provider import Provider

settings.register_profile(
    "agent-mode",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # CI says the same of the same code; whoever works on it looks at new examples each time.
    derandomize="AGENT_MODE_TEST_FULL" in os.environ,
)
settings.load_profile("agent-mode")


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running
