"""What the documentation says is there is there, and what must not be in it is not."""

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

import main
from functions import tick
from functions.schemas import TaskCreate
from functions.settings import load

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), ROOT / "terraform/README.md"])
DECISIONS = sorted((DOCS / "adr").glob("0*.md"))

OF_THE_PLATFORM = {"K_SERVICE", "GOOGLE_CLOUD_PROJECT"}
"""Set by the cloud itself, so nobody writes them into .env."""

DIAGRAMS = ("flowchart ", "sequenceDiagram\n", "stateDiagram-v2\n")
FORBIDDEN = {
    "a bearer token": r"Bearer +(?!token\b)[A-Za-z0-9][A-Za-z0-9._~+/-]{15,}",
    "a generated token": r"(?<![\w/-])(?=[\w-]*[0-9])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{40,}(?![\w/-])",
    "a signing secret": r"whsec_[A-Za-z0-9+/=]{8,}",
    "an API key": r"AIza[\w-]{30,}|gh[pousr]_\w{20,}|xox[abp]-[\w-]{10,}|AKIA[A-Z0-9]{16}",
    "a private key": r"BEGIN [A-Z ]*PRIVATE KEY",
    "a Discord webhook": r"discord(?:app)?\.com/api/webhooks",
    "a Slack webhook": r"hooks\.slack\.com",
    "a cloud project": r"\bprojects/[a-z][a-z0-9-]{4,}|[\w-]+\.a\.run\.app",
    "an account of a cloud": r"(?<![$\w-])[\w-]+\.iam\.gserviceaccount\.com",
    "a path of somebody's machine": r"(?<![\w.])/(?:home|root|Users|work|opt|private)/",
    "a document that is not in this repository": r"\bdesign/",
}


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)


def prose(document: Path) -> str:
    return re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ +(.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def settings_read() -> set[str]:
    """The names that functions/settings.py looks up in `values`, its checked environment."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / "functions/settings.py").read_text())):
        match node:
            case (
                ast.Call(
                    func=ast.Attribute(value=ast.Name("values"), attr="get"), args=[ast.Constant(name), *_]
                )
                | ast.Call(args=[ast.Name("values"), ast.Constant(name), *_])
                | ast.Subscript(value=ast.Name("values"), slice=ast.Constant(name))
                | ast.Compare(left=ast.Constant(name), comparators=[ast.Name("values")])
            ):
                names.add(str(name))
    return names


def settings_documented() -> dict[str, str]:
    """Each setting of docs/configuration.md with its default as written there."""
    rows = re.findall(
        r"^\| `([A-Z_0-9]+)` \| (.*?) \|", (DOCS / "configuration.md").read_text(), re.MULTILINE
    )
    assert len(rows) == len(dict(rows)), "a setting is described twice"
    return dict(rows)


def settings_exemplified() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(re.findall(r"^# ([A-Z_0-9]+)=(.*)$", "\n".join(lines), re.MULTILINE))


def test_the_settings_of_the_code_are_found() -> None:
    assert {"API_TOKEN", "PORT", "LOG_FILE", "K_SERVICE", "POSTGRES_PORT", "LOCAL_TICK"} <= settings_read()


def test_every_setting_is_documented_and_nothing_else() -> None:
    assert settings_documented().keys() == settings_read()


def test_the_example_has_every_setting_that_people_set() -> None:
    assert settings_exemplified().keys() == settings_read() - OF_THE_PLATFORM


def test_the_values_of_the_example_are_the_defaults() -> None:
    examples = {
        name: value
        for name, value in settings_exemplified().items()
        if name not in ("API_TOKEN", "DATABASE_URL") and not name.startswith("POSTGRES_")
    }
    assert load(examples) == load({})


def test_the_documented_defaults_are_those_of_the_code() -> None:
    defaults = load({})
    for name, text in settings_documented().items():
        value = getattr(defaults, name.lower(), None)
        if isinstance(value, str | int | Path) and not isinstance(value, bool):
            assert text == f"`{value}`", name


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (document.parent / path).resolve() if path else document
        assert linked.is_relative_to(ROOT), target
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_path_that_is_named_exists(document: Path) -> None:
    folders = "functions|domain|db|migrations|terraform|tests|docs"
    for path in re.findall(rf"`((?:{folders})/[\w./-]*)`", prose(document)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_make_target_that_is_named_exists_and_says_what_it_does(document: Path) -> None:
    targets = re.findall(r"^([a-z-]+):.*## .", (ROOT / "Makefile").read_text(), re.MULTILINE)
    code = [*code_blocks(document, "bash"), *re.findall(r"`[^`\n]+`", prose(document))]
    named = {target for text in code for target in re.findall(r"\bmake ([a-z-]+)", text)}
    assert named <= set(targets)


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_picture_is_a_diagram(document: Path) -> None:
    for block in code_blocks(document, "mermaid"):
        assert block.startswith(DIAGRAMS)
        assert len(block.splitlines()) > 2


def test_the_architecture_has_pictures() -> None:
    assert len(code_blocks(DOCS / "architecture.md", "mermaid")) >= 3


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / ".env.example"], ids=ids)
def test_no_secret_and_no_trace_of_a_machine_is_in_it(document: Path) -> None:
    for what, pattern in FORBIDDEN.items():
        assert not (found := re.search(pattern, document.read_text())), f"{what}: {found}"


@pytest.mark.parametrize(
    "text",
    [
        "Bearer 0123456789abcdefXYZ",
        "the token is Zk3vQ8sLw1Xy7Bn5Tc2Rd9Fg4Hj6Km0Pq_abcdEFGH",
        "https://discord.com/api/" + "webhooks/1/x",
        "https://hooks." + "slack.com/services/x",
        "projects/my-project-1",
        "tick@my-project-1.iam." + "gserviceaccount.com",
        "/" + "home/me/insignia",
    ],
)
def test_such_a_thing_would_be_found(text: str) -> None:
    assert any(re.search(pattern, text) for pattern in FORBIDDEN.values())


def test_the_commands_of_the_readme_can_be_read_by_a_shell() -> None:
    commands = [block for block in code_blocks(README, "bash") if "http://127.0.0.1:8000" in block]
    assert len(commands) >= 4
    for block in commands:
        assert "curl" in shlex.split(block.replace("$(", " "), comments=True)


def test_every_field_of_a_task_is_documented_with_its_default() -> None:
    text = (DOCS / "engine.md").read_text().split("## What a task says\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.*?) \|", text, re.MULTILINE))
    documented = {name: default for names, default in rows.items() for name in re.findall(r"\w+", names)}
    assert documented.keys() == TaskCreate.model_fields.keys()
    for name, field in TaskCreate.model_fields.items():
        if isinstance(field.default, str | int | dict):
            assert documented[name] == f"`{field.default}`", name


def test_the_readme_lists_every_route() -> None:
    declared = {
        (route.method, re.sub(r"\{\w+\}", "{}", route.path)) for route in (*main.documented, *tick.routes)
    }
    assert set(routes_listed()) == declared


def routes_listed() -> Iterator[tuple[str, str]]:
    """Of cells such as `GET`, `PUT /tasks/{id}`: every method before a path goes with it."""
    for cell in re.findall(r"^\| (`[A-Z]+.*?`) \|", README.read_text(), re.MULTILINE):
        for group in re.findall(r"((?:`[A-Z]+`, )*)`([A-Z]+) (/\S*)`", cell):
            methods = [*re.findall("[A-Z]+", group[0]), group[1]]
            yield from product(methods, [re.sub(r"\{\w+\}", "{}", group[2])])


@pytest.mark.parametrize("decision", DECISIONS, ids=ids)
def test_a_decision_fits_on_a_page_and_is_in_the_index(decision: Path) -> None:
    text = decision.read_text()
    assert text.startswith(f"# {decision.name[:4]}: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert len(text.splitlines()) <= 40
    assert f"({decision.name})" in (DOCS / "adr/README.md").read_text()


def test_pictures_are_small_and_each_is_shown() -> None:
    pictures = list((DOCS / "screenshots").iterdir())
    sizes = [picture.stat().st_size for picture in pictures]
    assert max(sizes) < 100_000
    assert sum(sizes) < 300_000
    shown = re.findall(
        r"screenshots/([\w-]+\.webp)", README.read_text() + (DOCS / "dashboard.md").read_text()
    )
    assert sorted(shown) == sorted(picture.name for picture in pictures)
