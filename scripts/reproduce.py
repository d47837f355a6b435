"""Runs a recipe with several seeds and compares the result with the published number.

    python scripts/reproduce.py lenet5_fashion_mnist seeds=3
    python scripts/reproduce.py all budget=2h jobs=2

Seeds that have finished with the same configuration and code are not run again, and one that was interrupted goes on.
`results/<experiment>.json` holds every seed's metrics and the verdict: "beaten", "matched" or "missed" by mean and
spread, or "reached once" for one seed.

With a budget the shortest recipes come first, as many as have been measured to fit; when the time is spent, what still
trains saves and stops, and the same command goes on with it.
"""

import json
import sys
import time
from pathlib import Path

from zoo.config.commandline import guarded, register_resolvers, script_arguments, whole_number
from zoo.errors import UserError, suggest
from zoo.reproduction.recipes import UnfinishedError, Workshop, duration, fitting, recipes, summarize, told, wanted
from zoo.running.signals import LISTENER

KEYS = {
    "experiment": "name of a recipe in configs/experiment, or 'all'",
    "seeds": "how many seeds, from 0 on (as many as the result in results/ has; 3 where there is none)",
    "jobs": "how many run side by side, each with one thread (1: all cores)",
    "budget": "runs what fits into this time, as 2h or 90min (no limit)",
    "runs": "folder for the runs (outputs/reproduce)",
    "results": "folder for the result (results)",
}


def main() -> int:
    given = {"seeds": "", "jobs": "1", "budget": "", "runs": "outputs/reproduce", "results": "results"}
    given |= script_arguments(sys.argv[1:], KEYS, positional="experiment")
    register_resolvers()
    names, name = recipes(), given.get("experiment", "")
    if name != "all" and name not in names:
        raise UserError(f"There is no recipe '{name}'{suggest(name, names)}")
    folder, results = Path(given["runs"]).absolute(), Path(given["results"])
    jobs, seeds = whole_number(given, "jobs", 1), whole_number(given, "seeds", 1) if given["seeds"] else None
    budget = duration(given["budget"]) if given["budget"] else None
    LISTENER.listen()  # what trains saves before this command ends
    begun = time.monotonic()
    chosen = [wanted(one, seeds, results) for one in (names if name == "all" else [name])]
    left, stopped, failed = [], [], 0
    if budget is not None:
        chosen, left = fitting(chosen, budget, jobs, folder)
        fit = f"{len(chosen)} of {len(chosen) + len(left)} recipes fit into {given['budget']}"
        print(f"{fit}: {', '.join(one.name for one in chosen) or 'none'}", flush=True)
    workshop = Workshop(folder, jobs, None if budget is None else begun + budget)
    for one, runs in workshop.run(chosen):
        if isinstance(runs, UnfinishedError):
            stopped.append(one.name)
        elif isinstance(runs, Exception):
            if not isinstance(runs, UserError):
                raise runs
            print(f"{one.name}: {runs}", file=sys.stderr, flush=True)
            failed += 1
        else:
            result = summarize(one.name, runs)
            results.mkdir(parents=True, exist_ok=True)
            (results / f"{one.name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            print(told(result), flush=True)
    if stopped:
        print(
            f"Not finished within {given['budget']}: {', '.join(stopped)}; the same command goes on with what is left."
        )
    if failed:
        raise UserError(f"{failed} of {len(chosen)} recipes failed; see above.")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
