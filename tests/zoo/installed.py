"""Which of the frameworks, and of what else a test file imports, are installed."""

from __future__ import annotations

from importlib.util import find_spec


def missing(*packages: str) -> list[str]:
    return [package for package in packages if find_spec(package) is None]


def files_that_lack(needs: dict[str, tuple[str, ...]]) -> list[str]:
    """Name the files, given by what each imports, that a ``conftest.py`` has to leave out as ``collect_ignore``."""
    return [file for file, packages in needs.items() if missing(*packages)]
