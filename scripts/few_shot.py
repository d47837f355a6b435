"""How well a network tells classes apart that it has never seen, by a few examples of each: nearest class mean.

python scripts/few_shot.py ckpt=outputs/2026-01-31/12-00-00-000000_cnn_digits "data.classes=[5,6,7,8,9]"
python scripts/few_shot.py ckpt=... "data.classes=[5,6,7,8,9]" ways=3 shots=5 episodes=1000 metrics=few_shot.json

Of a run with other classes, such as data=digits "data.classes=[0,1,2,3,4]". Each episode draws `ways` classes, `shots`
examples and `queries` queries of each. The accuracy is a mean over episodes with its 95 % interval, in the features of
the network (what goes into its output layer; the output itself of task=prototypical), and in the inputs as they are.
"""

import sys
from pathlib import Path

from zoo.config.commandline import data_settings, guarded, script_arguments, whole_number
from zoo.errors import UserError

KEYS = {
    "ckpt": "run folder (its best) or .ckpt",
    "data.<key>": "a setting of the data that replaces the run's, such as data.classes=[5,6,7,8,9]",
    "ways": "classes of an episode (5, or as many as there are)",
    "shots": "examples of each (1)",
    "queries": "samples of each that are told apart (15)",
    "episodes": "how many (600)",
    "seed": "of the episodes (0)",
    "metrics": "a .json file for the numbers in full precision",
    "allow": "a package (with a dot at its end) or name that the checkpoint may use besides the zoo's own",
}
DEFAULTS = {"shots": "1", "queries": "15", "episodes": "600", "seed": "0"}


def check(given: dict[str, str]) -> None:
    if not given.get("ckpt"):
        raise UserError(
            'ckpt= is missing: python scripts/few_shot.py ckpt=outputs/<run> "data.classes=[5,6,7,8,9]"    --help '
            "shows all keys."
        )
    for key in ("ways", "shots", "queries", "episodes"):
        if key in given:
            whole_number(given, key, 1)
    whole_number(given, "seed", 0)
    if "metrics" in given and not given["metrics"].endswith(".json"):
        raise UserError(f"metrics={given['metrics']} must be the name of a .json file.")


def main() -> int:
    own, settings = data_settings(sys.argv[1:])
    given = DEFAULTS | script_arguments(own, KEYS, positional="ckpt")
    check(given)
    sys.path.append(str(Path.cwd()))  # for a network of the user's own
    from zoo.running.report import write_json
    from zoo.trained.few_shot import accuracies, draw_episodes, look, with_interval

    allow = [name.strip() for name in given.get("allow", "").split(",") if name.strip()]
    samples = look(given["ckpt"], settings, allow)
    ways = int(given.get("ways", min(5, len(samples.names))))
    shots, queries, number = (int(given[key]) for key in ("shots", "queries", "episodes"))
    episodes = draw_episodes(samples.labels, ways, shots, queries, number, seed=int(given["seed"]))
    print(f"{given['ckpt']}, {len(samples.labels):,} samples of the classes {', '.join(samples.names)}")
    if samples.seen:
        print(f"Note: the network was trained on {', '.join(samples.seen)}; choose others with data.classes=[...].")
    examples = "1 example" if shots == 1 else f"{shots} examples"
    print(f"{number:,} episodes: {ways} classes, {examples} and {queries} queries of each")
    found = {}
    for name, rows in (("features", samples.features), ("inputs", samples.inputs)):
        if rows is not None:
            mean, half = with_interval(accuracies(rows, episodes, shots))
            found |= {f"{name}_accuracy": mean, f"{name}_interval": half}
            print(f"{name}: {mean:.1%} ± {half:.1%}")
    if "metrics" in given:
        print(f"Written: {write_json(given['metrics'], found)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
