"""Leave out the files that import a framework which is not installed."""

from __future__ import annotations

from zoo.installed import files_that_lack

collect_ignore = files_that_lack(
    {
        "test_certificate.py": ("torch",),
        "test_comparison.py": ("pandas",),
        "test_monitor.py": ("pandas",),
        "test_report.py": ("pandas",),
    }
)
