"""How often the checks of an oracle accuse a network that is right, and whether they catch those that are not.

    python docs/experiments/doctor.py
    python docs/experiments/doctor.py --innocent 2 --lying 2

Each of 20 ordinary networks in single precision is checked with 10 seeds, which choose the parameters, the data and the directions; each
of 7 networks with wrong derivatives with 20. A network is caught if a check fails, or if it is refused when the oracle is built.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping

from doctor_liars import LYING
from doctor_networks import INNOCENT, Make

from invariant_sharpness.errors import InvariantSharpnessError
from invariant_sharpness.testing import check_oracle


def accused(make: Make, seed: int) -> list[str]:
    """The checks that fail, or ``refused``."""
    try:
        oracle = make(seed)
        results = check_oracle(oracle, seed=seed, on_fail="return")
    except InvariantSharpnessError:
        return ["refused"]
    return [result.check for result in results if result.status == "failed"]


def count(networks: Mapping[str, Make], seeds: int) -> int:
    """Print a line for each network, and return how many runs accuse theirs."""
    total = 0
    for name, make in networks.items():
        found = [accused(make, seed) for seed in range(seeds)]
        times = sum(map(bool, found))
        words = ", ".join(sorted({check for checks in found for check in checks}))
        print(f"{name:32} {times:3} of {seeds:3}  {words}", flush=True)
        total += times
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--innocent", type=int, default=10, help="seeds for each network that is right")
    parser.add_argument("--lying", type=int, default=20, help="seeds for each network that is wrong")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    alarms = count(INNOCENT, asked.innocent)
    print(f"false alarms: {alarms} of {asked.innocent * len(INNOCENT)}\n")
    caught = count(LYING, asked.lying)
    print(f"caught: {caught} of {asked.lying * len(LYING)}")
