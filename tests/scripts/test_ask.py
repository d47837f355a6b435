"""scripts/ask.py: what docs/questions.yaml names is there, what it quotes is asserted, and its commands run."""

import ast
import json
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest

from zoo.build import build
from zoo.callbacks.tags import TAGS
from zoo.questions import MARGIN, RUN, WORD, commands, load, proofs
from zoo.run import configure
from zoo.sweeps.sweep import begin, is_sweep

ROOT = Path(__file__).parents[2]
QUESTIONS = {question["number"]: question for question in load()}
NEEDED = {"number", "title", "answer", "read", "command", "shows", "asserted"}
MORE = {"wrong", "proof", "then", "stops", "minutes", "see", "missing"}
ROOMS = sorted({tag.partition("/")[0] for tag in TAGS} | {"baseline"})
TAG = re.compile(rf"\b(?:{'|'.join(ROOMS)})/[\w/]+(?:<\w+>)?")
ALL = pytest.mark.parametrize("number", QUESTIONS)


@cache
def parsed(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    return text.splitlines(), ast.parse(text)


def functions(file):
    return {node.name: node for node in parsed(file)[1].body if isinstance(node, ast.FunctionDef)}


def exists(test):
    """Whether file::function is a test of ours; a file alone counts, too."""
    file, _, name = test.partition("::")
    return (ROOT / file).is_file() and (not name or name.partition("[")[0] in functions(file))


def one_line(text):
    return " ".join(text.split())


def source(test):
    """What a test says, with its decorators, and the constants of its file that it names."""
    file, _, name = test.partition("::")
    lines, tree = parsed(file)
    node = functions(file)[name.partition("[")[0]]
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    constants = [
        "\n".join(lines[part.lineno - 1 : part.end_lineno])
        for part in tree.body
        if isinstance(part, ast.Assign)
        and {name.id for target in part.targets for name in ast.walk(target) if isinstance(name, ast.Name)} & used
    ]
    return one_line("\n".join(["\n".join(lines[first - 1 : node.end_lineno]), *constants]))


def asserting(test):
    """Every assertion of a test, as it is written."""
    file, _, name = test.partition("::")
    lines, _ = parsed(file)
    found = []
    for node in ast.walk(functions(file)[name.partition("[")[0]]):
        is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if isinstance(node, ast.Assert) or (is_call and re.search("assert|close", ast.unparse(node.value.func))):
            found.append(one_line("\n".join(lines[node.lineno - 1 : node.end_lineno])))
    return found


def numerals(text):
    """The numbers in a text; what stands in a name, as the 2 of Conv2d or GPT-2, is none."""
    found = set()
    for match in re.finditer(r"\d[\d,_]*(?:\.\d+)?(?:e-?\d+)?", text):
        before, after = text[: match.start()], text[match.end() :]
        in_name = re.search(r"(?:[A-WY-Za-wyz_]|[A-Za-z]-|[A-Za-z_]\w*)$", before) and not re.search(r"\dx$", before)
        if not in_name and not re.match(r"[A-WY-Za-wyz_]", after):
            found.add(float(re.sub(r"[,_]", "", match[0])))
    return found


def test_all_56_are_there_in_their_order():
    assert list(QUESTIONS) == list(range(1, 57))
    assert len({question["title"] for question in QUESTIONS.values()}) == 56


@ALL
def test_an_entry_is_whole_and_what_it_names_exists(number):
    question = QUESTIONS[number]
    assert set(question) >= NEEDED
    assert set(question) <= NEEDED | MORE
    assert 150 < len(question["answer"]) < 600
    assert (ROOT / question["read"]).is_file()
    assert [test for test in [question["asserted"]["test"], *proofs(question)] if not exists(test)] == []
    if "see" in question:
        file, section = question["see"].split(", ")
        cells = json.loads((ROOT / file).read_text(encoding="utf-8"))["cells"]
        titles = [line for cell in cells if cell["cell_type"] == "markdown" for line in cell["source"]]
        assert any(re.match(rf"## {section} ", line) for line in titles), question["see"]


@ALL
def test_the_number_that_is_shown_is_the_one_that_its_test_asserts(number):
    held = QUESTIONS[number]["asserted"]
    said, quoted = source(held["test"]), [one_line(line) for line in held["lines"]]
    if "of" in held:
        assert Path(held["of"]).stem in said or "CARDS" in said, "the test reads the file"
        said += one_line((ROOT / held["of"]).read_text(encoding="utf-8"))
    assert [line for line in quoted if line not in said] == []
    assert any(line in assertion for line in quoted for assertion in asserting(held["test"])), "one of them asserts"
    wanted = numerals(held["text"])
    assert wanted, "there is a number"
    assert wanted <= numerals(" ".join(re.sub(r"  #.*", "", line) for line in held["lines"])), "each is quoted"


@ALL
def test_a_wrong_answer_that_is_named_is_refuted_by_a_test(number):
    question = QUESTIONS[number]
    assert "wrong" not in question or proofs(question) or number in REFUTED_BY_THE_NUMBER


# Those whose number itself says that the wrong answer is wrong.
REFUTED_BY_THE_NUMBER = (20, 27, 37, 56)


@cache
def words_of_ours():
    """Every text within the code that writes to TensorBoard or measures."""
    rooms = [path for room in ("tasks", "callbacks") for path in sorted((ROOT / "zoo" / room).glob("*.py"))]
    others = (
        "metrics/texts",
        "metrics/shifts",
        "baselines/simple",
        "baselines/support_vectors",
        "running/session",
        "run",
    )
    files = [*rooms, *(ROOT / "zoo" / f"{name}.py" for name in others)]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    return [node.value for tree in trees for node in ast.walk(tree) if isinstance(getattr(node, "value", 0), str)]


def is_drawn(tag):
    """Whether a chart is in the list of charts, or a picture that a task shows; its last word has to be one of ours."""
    patterns = [re.sub(r"<\w+>", "[^/]+", re.escape(listed)) for listed in TAGS]
    name = tag.rpartition("/")[2].partition("<")[0]
    names = {name, name.rpartition("_")[0] or name, name.removesuffix("_accuracy")}  # parts may be put together
    written = any(re.search(rf"\b{re.escape(one)}(\b|_$)", text) for one in names for text in words_of_ours())
    if tag.startswith(("samples/", "baseline/")):
        return written or tag in TAGS
    return any(re.fullmatch(pattern, tag) for pattern in patterns) and (written or tag in TAGS or not name)


@ALL
def test_every_chart_that_it_speaks_of_is_drawn(number):
    assert [tag for tag in TAG.findall(QUESTIONS[number]["shows"]) if not is_drawn(tag)] == []


def runs_of(command):
    """The lists of settings that a command of train.py stands for: one, or one for each cell of its sweep."""
    typed = shlex.split(command.replace(RUN, "outputs/run/"))[2:]
    typed = [word for word in typed if not word.startswith("pretrained=outputs/")]
    if not is_sweep(typed):
        return [typed]
    swept = begin(typed, None)
    return [[*swept.common, *(f"{key}={value}" for key, value in cell["point"].items())] for cell in swept.cells]


@pytest.mark.docs
@ALL
def test_its_commands_can_be_composed_and_those_that_take_minutes_be_built(number, script_module, tmp_path):
    question = QUESTIONS[number]
    for command in commands(question):
        first, second, *typed = shlex.split(command.replace(RUN, f"{tmp_path}/"))
        assert first in ("python", "pytest")
        if second == "train.py":
            cells = runs_of(command)
            for cell in cells[-1:]:  # of a sweep `begin` has composed the first one
                cfg = configure(*cell, run_dir=tmp_path)
                if "minutes" in question and "trainer=gpu" not in cell and "logger=none" not in cell:
                    build(cfg)
        elif second.startswith("scripts/"):
            keys = script_module(Path(second).stem)
            known = {*getattr(keys, "KEYS", {}), *getattr(keys, "LAYER", {})}
            own = [word for word in typed if word.partition("=")[0] not in known]
            configure(*own, run_dir=tmp_path)
        elif first == "pytest":
            assert exists(typed[-1])
        else:
            compile(typed[-1], command, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("number", [n for n, question in QUESTIONS.items() if "minutes" not in question])
def test_its_commands_run(number, type_script, tmp_path):
    ran = type_script("ask", number, "run=true", cwd=tmp_path)
    assert ran.status == 0, ran.err
    assert ran.out.count("\n$ ") == len(commands(QUESTIONS[number]))


def test_alone_it_lists_all_titles(call_script):
    lines = call_script("ask").out.splitlines()
    assert [line.split(None, 1) for line in lines] == [[str(n), q["title"]] for n, q in QUESTIONS.items()]


@ALL
def test_a_number_tells_the_entry_within_its_width(number, call_script, monkeypatch):
    question = QUESTIONS[number]
    for width in (80, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        ran = call_script("ask", number)
        assert ran.status == 0
        assert one_line(question["asserted"]["text"]) in one_line(ran.out)
        assert one_line(question["answer"]) in one_line(ran.out)
        for line in ran.out.splitlines():
            assert len(line) <= width or len(WORD.findall(line[MARGIN:].removesuffix(" \\"))) == 1, line
    shown = re.sub(r" \\\n +", " ", ran.out)
    for command in commands(question):
        assert command in shown, "to be copied as it stands, over several lines, too"


def test_a_word_finds_titles_and_answers(call_script):
    lines = call_script("ask", "Vanishing").out.splitlines()
    assert lines[0].startswith("29  ") or any(line.startswith("29  ") for line in lines)
    assert 1 <= len(lines) < 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["57"], "There is no question 57; there are 1 to 56"),
        (["0"], "There is no question 0"),
        (["-3"], "There is no question -3"),
        (["flibbertigibbet"], "No title or answer has 'flibbertigibbet'"),
        (["29", "run=perhaps"], "run=perhaps must be true or false"),
        (["run=true"], "run=true needs the number of a question"),
        (["vanishing", "run=true"], "run=true needs the number of a question"),
        (["29", "rum=true"], "did you mean 'run'?"),
        (["29", "30"], "'30' is not understood"),
    ],
)
def test_what_a_user_can_mend_is_one_line(arguments, said, call_script):
    ran = call_script("ask", *arguments)
    assert ran.status == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


@pytest.fixture
def told_to_run(script_module, monkeypatch, tmp_path):
    """perform(question, makes=[...], ends=[...]) -> (status, commands as run); a run is a folder that is made."""
    monkeypatch.chdir(tmp_path)

    def perform(question, makes=(), ends=()):
        ran, folders, statuses = [], iter(makes), iter(ends)

        def pretend(words, check):
            ran.append(" ".join(words[1:]))
            folder = next(folders, None)
            if folder:
                (tmp_path / "outputs" / "today" / folder).mkdir(parents=True)
            if folder == "sweep":
                (tmp_path / "outputs/today/sweep/results.csv").write_text("rank,cell\n1,4\n2,0\n")
            return subprocess.CompletedProcess(words, next(statuses, 0))

        module = script_module("ask")
        monkeypatch.setattr(module.subprocess, "run", pretend)
        return module.perform(question), ran

    return perform


def test_a_second_command_gets_the_run_that_the_first_has_made(told_to_run, tmp_path):
    (tmp_path / "outputs" / "today" / "older").mkdir(parents=True)
    question = {"command": "python train.py", "then": f"python scripts/codes.py ckpt={RUN}"}
    status, ran = told_to_run(question, makes=["run"])
    assert status == 0
    assert ran == [str(ROOT / "train.py"), f"{ROOT / 'scripts/codes.py'} ckpt=outputs/today/run/"]
    _, ran = told_to_run(question, makes=["sweep"])
    assert ran[1].endswith("ckpt=outputs/today/sweep/4/"), "of a sweep the cell that is ranked first"


def test_a_command_that_fails_ends_it_unless_that_is_what_there_is_to_see(told_to_run):
    question = {"command": "python train.py", "then": "python train.py model=mlp"}
    assert told_to_run(question, ends=[3]) == (3, [str(ROOT / "train.py")])
    assert told_to_run(question, ends=[0, 2])[0] == 2
    assert told_to_run(question | {"stops": True}, ends=[0, 2])[0] == 0
    assert told_to_run(question | {"stops": True}, ends=[2])[0] == 2, "the last one alone may end early"


def test_the_commands_of_its_first_lines_work(call_script, script_module, monkeypatch):
    module = script_module("ask")
    monkeypatch.setattr(subprocess, "run", lambda words, check: subprocess.CompletedProcess(words, 0))
    lines = re.findall(r"^python scripts/ask\.py ?(.*)$", module.__doc__, re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        assert call_script("ask", *line.split()).status == 0, line
