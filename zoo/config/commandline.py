"""The command line: quoting what Hydra's grammar would trip over, and one line for what a user got wrong.

Nothing here imports torch: `--help`, `--cfg job` and a misspelt key answer at once.
"""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from zoo.errors import UserError, suggest
from zoo.running.signals import Stop

CONFIGS = Path(__file__).parent.parent.parent / "configs"
# The user's wish; what `guarded` sets for Hydra is inherited by the processes that it starts, and is none.
TRACEBACK_WANTED = os.environ.get("HYDRA_FULL_ERROR") == "1" and "ZOO_GUARDED" not in os.environ
LARGEST = 2**63 - 1  # whole number that torch takes
FINISHED, BUG, BAD_INPUT, LOST_RANK, SAVED, INTERRUPTED = 0, 1, 2, 3, 75, 130

# Hydra's options, and whether a value follows.
FLAGS = {
    **dict.fromkeys(["-h", "--help", "--hydra-help", "--version", "--shell-completion", "-sc"], False),
    **dict.fromkeys(["-r", "--run", "-m", "--multirun", "--resolve"], False),
    **dict.fromkeys(["--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"], True),
    **dict.fromkeys(["--config-dir", "-cd", "--experimental-rerun", "--info", "-i"], True),
}
# Keys whose values are names of files, folders or columns, in which any character may stand.
NAMES = (
    *("path", "root", "text", "target", "test_path", "data_dir", "run_dir", "pretrained", "resume", "ckpt", "input"),
    *("src_path", "tgt_path", "val_path", "val_src_path", "val_tgt_path", "test_src_path", "test_tgt_path"),
)


def register_resolvers() -> None:
    """`${product:[1,28,28]}`, `${count:[a,b],10}` and `${run_name:}`, used in the yaml files."""

    def product(numbers: Sequence[int]) -> int:
        result = 1
        for number in numbers:
            result *= int(number)
        return result

    def count(wanted: Sequence[Any] | None, otherwise: int) -> int:
        return otherwise if wanted is None else len(wanted)

    def run_name() -> str:
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode

        if not HydraConfig.initialized() or HydraConfig.get().mode == RunMode.MULTIRUN:
            return "sweep"  # its cells have folders of their own below it
        choices = HydraConfig.get().runtime.choices
        return f"{choices.model}_{choices.data}"

    OmegaConf.register_new_resolver("product", product, replace=True)
    OmegaConf.register_new_resolver("count", count, replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)


def quote(argument: str, multirun: bool = False) -> str:
    """`key=value` with the value in quotes where Hydra's grammar would take it for something else."""
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or not value or key.startswith("hydra"):
        return argument
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" and parses(argument):
        return argument  # quoted by the user
    is_name = key.lstrip("+").split(".")[-1] in NAMES and value != "null" and "${" not in value
    if is_name and multirun and "," in value and not Path(value).expanduser().exists():
        is_name = False  # a sweep over several names
    if is_name and value.startswith("[") and value.endswith("]") and not Path(value).exists():
        if re.search("[\"']", value) and parses(argument):
            return argument
        columns = [in_quotes(name.strip()) for name in value[1:-1].split(",") if name.strip()]
        return f"{key}=[{','.join(columns)}]"
    return argument if not is_name and parses(argument) else f"{key}={in_quotes(value)}"


def in_quotes(value: str) -> str:
    """A text as Hydra's grammar has it, whatever it holds."""
    escaped = re.sub(r'(\\*)"', lambda m: m.group(1) * 2 + '\\"', value)
    escaped += "\\" * (len(escaped) - len(escaped.rstrip("\\")))
    return f'"{escaped}"'


def parses(argument: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True


def check_argument(argument: str) -> None:
    """Raises UserError for what Hydra would meet with a traceback or a page of usage."""
    key, equals, value = argument.partition("=")
    plain = key.lstrip("+")
    if argument.startswith("-"):
        if key not in FLAGS:
            long = [flag for flag in FLAGS if flag.startswith("--")]
            raise UserError(f"There is no option {key}{suggest(key, long)} Values are set with key=value, for instance "
                            "optimizer.lr=0.1.")  # fmt: skip
    elif not key or (not equals and not argument.startswith("~")):
        raise UserError(f"'{argument}' is not understood; write key=value, for instance model=mlp.")
    elif equals and "/" in plain and (CONFIGS / plain).is_dir() and not plain.startswith("hydra"):
        group, _, folder = plain.partition("/")
        raise UserError(f"What lies in a folder is chosen by its group: {group}={folder}/{value}.")
    elif equals and (CONFIGS / plain).is_dir() and re.fullmatch(r"null|true|false|[-+.\d]*", value):
        raise UserError(f"There is no {plain}={value}{suggest(value, options(plain))}")
    elif plain == "run_dir" and value in ("", "null"):
        raise UserError("run_dir is empty; give the name of a folder, or leave it out.")


def in_order(arguments: Sequence[str]) -> list[str]:
    """Options first: Hydra takes none between two values. Raises UserError for what it cannot take at all."""
    flags: list[str] = []
    values: list[str] = []
    for argument in arguments:
        last = flags[-1] if flags else ""
        if FLAGS.get(last) and "=" not in argument and not argument.startswith("-"):
            flags.append(argument)  # the value of an option, as in --cfg job
            continue
        check_argument(argument)
        (flags if argument.startswith("-") else values).append(argument)
    return [*flags, *values]


def prepare(arguments: Sequence[str]) -> list[str]:
    """The arguments as Hydra should see them: names quoted, and a network of the user's own given room for its keys."""
    multirun = bool({"-m", "--multirun"} & set(arguments))
    prepared = [quote(argument, multirun) for argument in in_order(arguments)]
    own = any(a.startswith("model._target_=") for a in prepared) and not any(a.startswith("model=") for a in prepared)
    if own:
        prepared = [f"++{a}" if a.startswith("model.") and not a.startswith("model._target_") else a for a in prepared]
        prepared.append("model=custom")  # Hydra composes groups before values, in whatever order they come
    return prepared


def options(group: str) -> list[str]:
    """The names of a configuration group; one in a folder of it has the folder before it, as pathology/overfitting."""
    place = CONFIGS / group
    return sorted(path.relative_to(place).with_suffix("").as_posix() for path in place.rglob("*.yaml"))


def unquoted(argument: str) -> str:
    return argument.partition("=")[2].strip("\"'")


def explain(error: BaseException) -> str:
    """One line for an error of Hydra or OmegaConf."""
    text = str(error)
    cause = str(error.__cause__ or "")
    group = re.search(r"Could not find '(\w+)/([^']+)'", text)
    if group:
        found = [name for name in options(group[1]) if name not in ("base", "custom", "auto") or group[1] != "model"]
        return f"There is no {group[1]}={group[2]}{suggest(group[2], found)}"
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        return unknown_key(key[1])
    if text.startswith("Ambiguous value"):
        return f"{text.splitlines()[0]}: several values are a sweep, which needs -m: python train.py -m ..."
    if "LexerNoViableAlt" in text or "mismatched input" in text or "no viable alternative" in text:
        what = re.sub(r"^\w*Exception: ", "", text.splitlines()[0])
        return f"{what} is not understood; put a value with special characters in quotes: 'key=\"value\"'."
    first = next((line for line in (text + "\n" + cause).splitlines() if line.strip()), type(error).__name__)
    return first.strip()


def unknown_key(key: str) -> str:
    """What to say of a key that the configuration does not have."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    plain = [a for a in sys.argv[1:] if "=" in a and "." not in a.split("=")[0] and not a.startswith("-")]
    if any(a.startswith("resume=") and not a.endswith(("=auto", "=null")) for a in plain):
        return (
            f"'{key}' cannot be set beside resume=: a run goes on with the settings in its config.yaml; leave it out."
        )
    node: Any = {}
    try:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            groups = [a for a in plain if (CONFIGS / a.split("=")[0]).is_dir() and "," not in a]
            node = compose("train", overrides=groups)
    except Exception:
        return f"There is no key '{key}'. What there is: python train.py --cfg job"
    parts = key.lstrip("+~").split(".")
    for i, part in enumerate(parts):
        names = list(node) if isinstance(node, DictConfig) else []
        if part not in names:
            parent = ".".join(parts[:i])
            groups_too = [] if i else [path.name for path in CONFIGS.iterdir() if path.is_dir()]
            known = sorted({str(n) for n in names if not str(n).startswith("_")} | set(groups_too) - {"hydra"})
            place = f" in {parent}" if parent else ""
            return f"There is no key '{part}'{place}{suggest(part, known)}"
        node = node._get_node(part) if not OmegaConf.is_missing(node, part) else {}
    return f"'{key}' cannot be set this way. What there is: python train.py --cfg job"


def guarded(command: Callable[[], Any], speaks: Callable[[], bool] = lambda: True) -> int:
    """Runs a command and returns its exit status; what a user can mend is one line on stderr.

    `HYDRA_FULL_ERROR=1` in the environment shows the traceback as well. A bug of our own passes through.

    Args:
        speaks: whether this process is the one to say it.
    """
    from hydra.errors import HydraException

    if not TRACEBACK_WANTED:
        os.environ["ZOO_GUARDED"] = "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then passes errors on instead of printing them itself
    try:
        status = command()
    except UserError as error:
        cause: BaseException = error
        message = str(error)
    except (HydraException, OmegaConfBaseException) as error:
        message, cause = str(error.__cause__) if isinstance(error.__cause__, UserError) else explain(error), error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if error.filename is None and not full:
            raise
        ours = any(a.startswith("run_dir=") and str(error.filename) in unquoted(a) for a in sys.argv[1:])
        hint = "choose another run_dir=." if ours else "give another name, or mend its permissions."
        hint = "free some space." if full else hint
        message, cause = f"Cannot use {error.filename or 'a file'}: {error.strerror}; {hint}", error
    except RuntimeError as error:
        if "home directory" not in str(error):
            raise
        home = next((a for a in sys.argv[1:] if unquoted(a).startswith("~") or a.startswith("~")), "A path")  # ~name
        message, cause = f"{home} begins with the home of a user who is not there; write ./~... for such a name.", error
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except Stop as stop:
        return stop.status
    else:
        return status if isinstance(status, int) else FINISHED
    if TRACEBACK_WANTED:
        traceback.print_exception(cause)
    if speaks():
        print(f"Error: {' '.join(message.split())}", file=sys.stderr)
    return BAD_INPUT


def script_arguments(arguments: Sequence[str], known: dict[str, str], positional: str | None = None) -> dict[str, str]:
    """`key=value` arguments of a script, split at the first `=`, plus at most one positional name.

    Args:
        known: what each key means; anything else is refused.
        positional: the key that an argument without `=` stands for.
    """
    if {"-h", "--help"} & set(arguments):
        for key, meaning in known.items():
            print(f"  {key + '=':<16}{meaning}")
        raise SystemExit(0)
    found: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            if positional is None or positional in found:
                raise UserError(f"'{argument}' is not understood; write key=value. Keys: {', '.join(known)}.")
            key, value = positional, argument
        if key not in known:
            raise UserError(f"There is no key '{key}'{suggest(key, known)}")
        found[key] = value
    return found


def whole_number(given: Mapping[str, str], key: str, least: int, most: int = LARGEST) -> int:
    """The number that was given for a key of a script. Raises UserError where it is none, too small or too large."""
    text = given[key]
    if not (text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        usual = most == LARGEST and len(text) < 19
        raise UserError(f"{key}={text} must be a whole number from {least} {'on' if usual else f'to {most}'}.")
    return int(text)


def data_settings(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The script's own arguments, and those of the data as values: `data.seed=1` is the number 1, a path a text."""
    own = [argument for argument in arguments if not argument.startswith("data.") or "=" not in argument]
    settings: dict[str, Any] = {}
    for argument in arguments:
        if argument not in own:
            key, _, value = argument.removeprefix("data.").partition("=")
            try:
                is_list = value.startswith("[") and value.endswith("]") and not Path(value).exists()
                is_name = key in NAMES and value != "null" and not is_list
                settings[key] = value if is_name else yaml.safe_load(value)
            except yaml.YAMLError:
                settings[key] = value
    return own, settings
