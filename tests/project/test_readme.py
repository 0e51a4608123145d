"""What the README and its pages show must work as it stands there."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from supsup_methods.recipes import RECIPES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("packages/*/README.md"))]
ALL = "\n".join(page.read_text() for page in PAGES)


def test_the_core_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), scope)  # noqa: S102 - the README is ours
    assert scope["guess"].task == 1
    assert scope["logits"].shape == (1, 100)
    assert (tmp_path / "bank" / "manifest.json").exists()


def test_the_example_of_core_trains_masks_and_finds_a_task():
    text = (ROOT / "packages" / "core" / "README.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(example, "packages/core/README.md", "exec"), scope)  # noqa: S102 - the README is ours
    assert scope["guess"].task == 1
    assert float(scope["right"].float().mean()) > 0.95


def test_the_example_of_methods_trains_a_run_and_finds_a_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example, _ = examples_of_methods()
    scope: dict[str, object] = {}
    exec(compile(example, "packages/methods/README.md", "exec"), scope)  # noqa: S102 - the README is ours
    assert scope["guess"].task == 3
    assert scope["run"].summary["checkpoints"][-1]["accuracy"] > 0.9
    assert (tmp_path / "my-run" / "summary.json").exists()


def test_the_recipes_of_a_method_of_ones_own_are_written_as_methods_says(monkeypatch):
    path = ROOT / "tests" / "commands" / "nearest_mean.py"
    spec = importlib.util.spec_from_file_location("my_package.nearest_mean", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "my_package", ModuleType("my_package"))
    monkeypatch.setitem(sys.modules, "my_package.nearest_mean", module)
    spec.loader.exec_module(module)
    _, example = examples_of_methods()
    scope: dict[str, object] = {}
    exec(compile(example, "packages/methods/README.md", "exec"), scope)  # noqa: S102 - the README is ours
    (recipe,) = scope["RECIPES"]
    assert (recipe.name, recipe.method.kind) == ("nearest-mean", module.KIND.settings().kind)


def examples_of_methods():
    text = (ROOT / "packages" / "methods" / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", ["serving", "own-data"])
def test_the_examples_of_a_page_print_what_it_says(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{page}.md").read_text(), flags=re.DOTALL)
    scope: dict[str, object] = {}
    compared = 0
    for example in examples:
        exec(compile(example, f"docs/{page}.md", "exec"), scope)  # noqa: S102 - the pages are ours
        for said in re.findall(r"print\(.*\)  # (\[.*\]|\d.*)", example):
            assert capsys.readouterr().out.strip() == said
            compared += 1
    assert compared == sum(example.count("print(") for example in examples) > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_exists(page):
    text = page.read_text()
    for name in re.findall(r"`((?:packages|apps|benchmarks|tests|scripts|docs)/[^`* ]*)`", text):
        assert (ROOT / name).exists(), name
    for name, place in re.findall(r"\]\(([^)#:]*)(#[^)]+)?\)", text):
        linked = page.parent / name if name else page
        assert linked.exists(), name
        headings = re.findall(r"^#+ (.*)", linked.read_text(), flags=re.MULTILINE) if place else []
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not place or place[1:] in anchors, place


def test_the_readme_leads_to_every_page():
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name})" in README, page.name


def test_every_make_target_it_names_exists():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    named = set(re.findall(r"make (\w+)", README))
    assert {"demo", "test", "lint"} <= named <= set(targets)


OTHERS = re.compile(
    r"`(?:python )?benchmarks/[^`]*`|\(`--hidden[^`]*`\)|`streamlit run [^`]*`"
)  # which have options of their own


@pytest.mark.parametrize("option", sorted(set(re.findall(r"(?<=\s)--[a-z][a-z.-]+", OTHERS.sub("", ALL)))))
def test_every_option_that_is_named_exists(option, tmp_path, monkeypatch, capsys):
    from supsup_methods.commands.launch import parse_launch
    from supsup_methods.commands.questions import parse_question
    from supsup_methods.commands.reproduction_requests import parse_request

    monkeypatch.chdir(tmp_path)
    # The options of masks and streams hang on the recipe.
    for parse, recipe in (
        (parse_launch, ()),
        (parse_launch, ("folder-own",)),
        (parse_launch, ("folder-torchvision",)),
        (parse_question, ()),
        (parse_request, ()),
    ):
        with pytest.raises(SystemExit):
            parse([*recipe, "--help"])
    assert re.search(rf"{re.escape(option)}(?![\w-])", capsys.readouterr().out)


COMMANDS = {"supsup-train": "launch.parse_launch", "supsup-eval": "questions.parse_question"}
COMMANDS["supsup-reproduce"] = "reproduction_requests.parse_request"
CALLED = re.compile(r"(supsup-(?:train|eval|reproduce))((?: [^`\n#·|]*)?)")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_the_options_that_it_is_called_with(command, capsys):
    from importlib import import_module

    module, parse = COMMANDS[command].split(".")
    for recipe in ((), ("folder-own",), ("folder-torchvision",)) if command == "supsup-train" else ((),):
        with pytest.raises(SystemExit):
            getattr(import_module(f"supsup_methods.commands.{module}"), parse)([*recipe, "--help"])
    told = capsys.readouterr().out
    named = {
        option
        for name, rest in CALLED.findall(OTHERS.sub("", ALL))
        if name == command
        for option in re.findall(r"(?<=\s)--[a-z][a-z.-]+", rest)
    }
    assert len(named) > 3
    assert not {option for option in named if not re.search(rf"{re.escape(option)}(?![\w-])", told)}


def test_the_dashboard_listens_on_localhost_and_takes_ten_megabytes():
    server = tomllib.loads((ROOT / "apps" / ".streamlit" / "config.toml").read_text())["server"]
    assert (server["address"], server["maxUploadSize"]) == ("localhost", 10)


def test_every_recipe_that_is_named_exists():
    started = re.findall(r"supsup-train ((?!-)[a-z0-9-]+)", ALL)
    assert {"table3-psp", "table2-supsup-c4-transfer"} <= set(started)
    assert set(started) <= set(RECIPES)
