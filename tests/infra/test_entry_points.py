"""main.py, Terraform, cloudbuild.yaml and docs/deploy.md deploy the same functions, alike."""

import re
from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.infra.shell import Deployment
from tests.infra.sources import (
    BY_FUNCTIONS,
    BY_RUN,
    DEPLOY,
    block,
    deployed_by_cloudbuild,
    deployed_by_document,
    deployed_by_hand,
    entry_points,
    terraform,
    variable_default,
)

DEPLOYED = ["migrate", "api", "tick"]
WITH_WORKERS = ["migrate", "api", "deliver", "tick"]
RENAMED_BY_RUN = {"entry-point": "function", "ingress-settings": "ingress", "runtime": "base-image"}
OF_FUNCTIONS_ALONE = {"gen2", "trigger-http", "docker-repository"}
OF_A_BUILD_ALONE = {"quiet", "update-labels"}
INGRESS = {"ALLOW_ALL": "all", "ALLOW_INTERNAL_ONLY": "internal-only"}


def misnamed(deployments: Iterable[Deployment]) -> list[str]:
    """The deployments whose entry point is none of main.py, or whose name does not say which it is."""
    return [
        one.name
        for one in deployments
        if one.entry_point not in entry_points() or one.name != f"insignia-{one.entry_point}"
    ]


def functions_of_terraform() -> set[str]:
    (choice,) = re.findall(r"contains\(\[([^\]]*)\], f\)", terraform("variables.tf"))
    always = re.findall(
        r"^      (\w+) = \{$", terraform("locals.tf").split("functions = merge(")[1], re.MULTILINE
    )
    return {*re.findall(r'"(\w+)"', choice), *always}


def made_by_terraform(function: str) -> dict[str, str]:
    """The flags of gcloud that say the same as locals.tf, functions.tf and the defaults of variables.tf."""
    text = terraform("locals.tf")
    arguments = block(text, "http_function" if function == "api" else function)
    if arguments["instances"].startswith("var."):
        arguments["instances"] = variable_default(arguments["instances"].removeprefix("var."))
    (timeout,) = re.findall(r"^  timeout_seconds = (\d+)$", text, re.MULTILINE)
    (cpu,) = set(re.findall(r'available_cpu += "(\d+)"', terraform("functions.tf")))
    return {
        "memory": arguments["memory"],
        "concurrency": arguments["concurrency"],
        "max-instances": arguments["instances"],
        "ingress-settings": INGRESS[arguments["ingress"]],
        "timeout": f"{timeout}s",
        "cpu": cpu,
        "runtime": variable_default("runtime"),
    }


def test_the_entry_points_of_the_code_are_found() -> None:
    assert entry_points() == {"api", "tasks", "task_logs", "health", "tick", "deliver", "migrate"}


def test_terraform_can_deploy_every_entry_point_and_nothing_else() -> None:
    assert functions_of_terraform() == entry_points()
    assert set(re.findall(r"entry_point += (\S+)", terraform("functions.tf"))) == {"each.key", '"tick"'}


def test_what_is_deployed_is_an_entry_point_and_migrate_comes_first() -> None:
    for deployments, expected in (
        (deployed_by_cloudbuild(), WITH_WORKERS),
        (deployed_by_hand(), WITH_WORKERS),
        (deployed_by_document(BY_FUNCTIONS), DEPLOYED),
        (deployed_by_document(BY_RUN), DEPLOYED),
    ):
        assert [one.entry_point for one in deployments] == expected
        assert misnamed(deployments) == []


def test_a_misspelt_entry_point_would_be_found() -> None:
    (good, *_) = deployed_by_cloudbuild()
    assert misnamed([replace(good, entry_point="migrations")]) == ["insignia-migrate"]
    assert misnamed([replace(good, name="insignia-tick")]) == ["insignia-tick"]


def test_the_document_deploys_what_cloudbuild_does() -> None:
    for built, typed in zip(deployed_by_cloudbuild(), deployed_by_hand(), strict=True):
        flags = {name: value for name, value in built.flags.items() if name not in OF_A_BUILD_ALONE}
        assert flags == typed.flags
        assert built.secrets == typed.secrets


def test_both_ways_of_the_document_deploy_the_same() -> None:
    for one, other in zip(deployed_by_document(BY_FUNCTIONS), deployed_by_document(BY_RUN), strict=True):
        flags = {
            RENAMED_BY_RUN.get(name, name): value
            for name, value in one.flags.items()
            if name not in OF_FUNCTIONS_ALONE
        }
        flags["ingress"] = flags["ingress"].removesuffix("-only")
        assert flags == other.flags
        assert (one.settings, one.secrets) == (other.settings, other.secrets)


@pytest.mark.parametrize("function", WITH_WORKERS)
def test_terraform_makes_the_functions_alike(function: str) -> None:
    (built,) = [one for one in deployed_by_cloudbuild() if one.entry_point == function]
    expected = made_by_terraform(function)
    assert {name: built.flags[name] for name in expected} == expected


def test_a_message_of_pubsub_is_not_sent_again_while_its_worker_has_time() -> None:
    assert re.search(r"ack_deadline_seconds += local.timeout_seconds$", terraform("workers.tf"), re.MULTILINE)
    assert "--ack-deadline=120 " in DEPLOY.read_text()
    assert made_by_terraform("deliver")["timeout"] == "120s"


def test_the_attempt_of_the_scheduler_has_the_time_of_the_function() -> None:
    assert re.search(r'attempt_deadline += "\$\{local.timeout_seconds\}s"', terraform("scheduler.tf"))
    assert made_by_terraform("tick")["timeout"] == "120s"
