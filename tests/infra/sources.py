"""What the tests here compare: the code, cloudbuild.yaml, the documents and the Terraform module."""

import ast
import re
from functools import cache
from typing import Any

import yaml

from tests.infra.shell import ROOT, Deployment, bash_in, deployments_in

CLOUDBUILD = ROOT / "cloudbuild.yaml"
DEPLOY = ROOT / "docs/deploy.md"
OPERATIONS = ROOT / "docs/operations.md"
TERRAFORM = ROOT / "terraform"
BY_FUNCTIONS = "### Functions, by gcloud functions deploy\n"
BY_HAND_FOR_WORKERS = "### Workers\n"
BY_RUN = "### Functions, by gcloud run deploy\n"


def entry_points() -> set[str]:
    """The functions of main.py that can be deployed; `local` is for one machine."""
    names = set()
    for node in ast.parse((ROOT / "main.py").read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=ast.Call(func=ast.Name("http_function"))):
                names.add(name)
    return names - {"local"}


@cache
def build() -> dict[str, Any]:
    """cloudbuild.yaml."""
    loaded: dict[str, Any] = yaml.safe_load(CLOUDBUILD.read_text())
    return loaded


def environment_of(step: dict[str, Any], substitutions: dict[str, str]) -> dict[str, str]:
    """The environment of a step, with the substitutions that the project decides left as $NAME."""
    return {
        name: re.sub(r"\$(_\w+)", lambda match: substitutions[match[1]], value)
        for name, value in (entry.split("=", 1) for entry in step.get("env", []))
    }


def deployed_by_cloudbuild() -> list[Deployment]:
    """Without workers, in the words of the documents: $PROJECT_ID, $REGION, $MIGRATE_HOST, $API_HOST, $OWN_HOSTS."""
    substitutions = {**build()["substitutions"], "_REGION": "$REGION"}
    words = {
        "migrate_host": "$MIGRATE_HOST",
        "api_host": "$API_HOST",
        "worker_user": "",
        "worker_account": "",
    }
    same = {name: f"${name}" for name in ("PROJECT_ID", "OWN_HOSTS")}
    return [
        deployment
        for step in build()["steps"]
        for deployment in deployments_in(step["script"], environment_of(step, substitutions) | words | same)
    ]


def deployed_by_document(heading: str) -> list[Deployment]:
    section = DEPLOY.read_text().split(heading)[1].split("\n### ")[0]
    variables = {"ACCOUNTS": "$PROJECT_ID.iam.gserviceaccount.com", "REGION": "$REGION"}
    return deployments_in(bash_in(section), variables | {"WORKERS": build()["substitutions"]["_WORKERS"]})


def deployed_by_hand() -> list[Deployment]:
    """What the document deploys by `gcloud functions deploy`, in the order of cloudbuild.yaml."""
    *others, tick = deployed_by_document(BY_FUNCTIONS)
    return [*others, *deployed_by_document(BY_HAND_FOR_WORKERS), tick]


@cache
def terraform(file: str) -> str:
    """A file of the module, without comments."""
    return re.sub(r"^\s*#.*$|\s# .*$", "", (TERRAFORM / file).read_text(), flags=re.MULTILINE)


def block(text: str, name: str) -> dict[str, str]:
    """The plain arguments of `name = { ... }`, with strings unquoted."""
    if (match := re.search(rf"^( *){name} += \{{\n(.*?)^\1\}}", text, re.DOTALL | re.MULTILINE)) is None:
        return {}
    return {
        key: value.strip('"') for key, value in re.findall(r"^\s*(\w+)\s*=\s*(.*)$", match[2], re.MULTILINE)
    }


def variable_default(name: str) -> str:
    (declared,) = re.findall(
        rf'^variable "{name}" \{{\n(.*?)^\}}', terraform("variables.tf"), re.DOTALL | re.MULTILINE
    )
    (default,) = re.findall(r"^  default\s*= (.*)$", declared, re.MULTILINE)
    return str(default).strip('"')


def settings_in(configuration: str) -> set[str]:
    """The environment variables that a Terraform configuration sets: keys in capitals."""
    return set(re.findall(r"\b([A-Z][A-Z0-9_]{2,})\s*=(?![=>])", re.sub(r'"[^"\n]*"', '""', configuration)))
