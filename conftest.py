"""How Hypothesis searches in the test suite, and in the examples of the docstrings."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

# Few examples for `make test`; `make deep` loads the other profile and draws more. Both are the same on every run.
# Neither has a deadline, nor a limit for drawing an example: a test is not wrong where the machine is slow.
# Neither tries a hundred other examples to explain the one that was found.
TIMELESS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[phase for phase in Phase if phase is not Phase.explain],
)
settings.register_profile("quick", TIMELESS, max_examples=8, derandomize=True, database=None)
settings.register_profile("deep", TIMELESS, max_examples=20, derandomize=True, database=None)
settings.load_profile("quick")
