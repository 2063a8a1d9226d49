"""Many pods at once on one volume, some killed: one compile, one result, every pod usable.

    python benchmarks/crowd.py --pods 24 --rounds 24 --out benchmarks/results/<date>-crowd

Each pod is a process of the packed installer with a target of its own. The compile is a process
too, but its compiler is a script that takes a second: what is counted is who compiles, not how
fast.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import describe_run

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.crowd import QUICK, Crowd, make_crowd_kit
from support.crowd_rounds import Round, play_round


def summarize(rounds: list[Round]) -> dict[str, Any]:
    """Sums over all rounds, and what was promised of them."""
    killed = sum(one.killed for one in rounds)
    return {
        "rounds": len(rounds),
        "pods": sum(one.pods for one in rounds),
        "killed": killed,
        "killed while they held the lease": sum(one.killed_holders for one in rounds),
        "compiles": sum(one.compiles for one in rounds),
        "compiles at most": sum(1 + one.killed_holders for one in rounds),
        "results published": sum(one.results for one in rounds),
        "survivors usable": sum(one.survivors_usable for one in rounds),
        "killed ones usable at their next start": sum(one.killed_usable_later for one in rounds),
        "half things in the cache": sum(len(one.half) for one in rounds),
        "promises broken": [fault for one in rounds for fault in one.faults],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pods", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--out", type=Path, required=True, help="result without suffix")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crowd-") as name:
        crowd = Crowd(Path(name) / "crowd", make_crowd_kit(Path(name) / "kit"))
        rounds = []
        for seed in range(arguments.seed, arguments.seed + arguments.rounds):
            rounds.append(play_round(crowd, pods=arguments.pods, seed=seed))
            print(json.dumps(rounds[-1].to_json()), flush=True)
    summary = summarize(rounds)
    result = {
        **describe_run(),
        "python": sys.version.split()[0],
        "load at the end": round(os.getloadavg()[0], 1),
        "leases": QUICK,
        "summary": summary,
        "each": [one.to_json() for one in rounds],
    }
    arguments.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(summary, indent=1))
    return 1 if summary["promises broken"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
