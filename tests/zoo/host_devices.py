"""Several devices on the processor, for programs that run on JAX."""

from __future__ import annotations

import os


def divided_processor(devices: int) -> dict[str, str]:
    """The environment of a program in which XLA sees this many devices; their number is fixed when JAX starts.

    A device that waits for the others holds a thread: with as few threads as cores, all can wait for ever, and on a
    busy machine longer than XLA's 40 seconds. OpenMP's number of threads would take precedence over NPROC.
    """
    flags = f"--xla_force_host_platform_device_count={devices} --xla_cpu_collective_call_terminate_timeout_seconds=300"
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return inherited | {"NPROC": "16", "XLA_FLAGS": flags}
