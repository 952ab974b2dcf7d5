"""Leave out all files where Keras is not installed; each engine that is not is skipped by its tests."""

from __future__ import annotations

from zoo.installed import missing

collect_ignore_glob = ["test_*.py"] if missing("keras") else []
