"""Hypothesis without clocks: how long an example takes says something of the machine, not of the code."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "agent-mode",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # CI says the same of the same code; whoever works on it looks at new examples each time.
    derandomize="AGENT_MODE_TEST_FULL" in os.environ,
)
settings.load_profile("agent-mode")
