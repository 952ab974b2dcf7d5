"""Leave out all files where torch is not installed, and those that take a model of transformers where that is not."""

from __future__ import annotations

from zoo.installed import files_that_lack, missing

collect_ignore_glob = ["test_*.py"] if missing("torch") else []
REAL = ("transformers", "sklearn")
collect_ignore = files_that_lack({"test_torch_attention.py": REAL, "test_torch_resnet.py": REAL})
