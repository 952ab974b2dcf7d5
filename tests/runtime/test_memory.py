"""How much memory a measurement takes by default, a share of what the machine has; and what it gives back."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import invariant_sharpness as ish
from invariant_sharpness.runtime import memory
from invariant_sharpness_numpy import FunctionOracle

GIB = 2**30


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    """The default is looked up once in a process."""
    memory._default.cache_clear()
    yield
    memory._default.cache_clear()


def blocks_of_a_mebibyte(monkeypatch: pytest.MonkeyPatch, path: Path, pages: int, granted: str) -> int:
    path.write_text(granted)
    monkeypatch.setattr(memory, "_CONTAINER", path)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": pages, "SC_PAGE_SIZE": 4096}[name])
    return memory.chunks_within_limit(2**20)


@pytest.mark.parametrize(
    ("gibibytes", "granted", "expected"),
    [(64, "max\n", 8), (64, f"{16 * GIB}\n", 2), (16, f"{64 * GIB}\n", 2), (4, "max\n", 1)],
)
def test_default_is_an_eighth_of_the_memory_of_machine_or_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gibibytes: int, granted: str, expected: int
) -> None:
    found = blocks_of_a_mebibyte(monkeypatch, tmp_path / "memory.max", gibibytes * GIB // 4096, granted)
    assert found == expected * 1024


def test_where_no_memory_is_told_it_is_one_gibibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert memory.chunks_within_limit(2**20) == 1024


def test_a_limit_of_the_user_prevails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with ish.memory_limit(3 * 2**20):
        assert blocks_of_a_mebibyte(monkeypatch, tmp_path / "memory.max", 64 * GIB // 4096, "max") == 3


def linear(entries: int) -> FunctionOracle:
    zeros = {"weight": np.zeros((1, entries))}
    return FunctionOracle(zeros, loss=lambda _: 0.0, gradient=lambda _: zeros, hessian_vector_product=lambda *_: zeros)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not that of GNU")
@pytest.mark.parametrize(("entries", "returns"), [(2**23, True), (2**10, False)], ids=["large", "small"])
def test_what_is_freed_between_pieces_in_use_is_given_back_by_large_networks(entries: int, returns: bool) -> None:
    oracle, pieces = linear(entries), [bytearray(2**16) for _ in range(4000)]
    kept = pieces[::100]
    del pieces
    before = resident()
    memory.give_back_freed(oracle)
    returned = (before - resident()) / 2**20
    assert (returned > 100) == returns, f"{returned:.0f} MB of 250 were given back beside {len(kept)} pieces in use"
