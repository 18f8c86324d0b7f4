"""Every environment variable that is set in the cloud is a setting of the code, and the other way round."""

import re
from pathlib import Path
from typing import Any

import functions_framework

from tests.infra.shell import Deployment
from tests.infra.sources import (
    BY_RUN,
    DEPLOY,
    build,
    deployed_by_cloudbuild,
    deployed_by_document,
    deployed_by_hand,
    environment_of,
    settings_in,
    terraform,
    variable_default,
)
from tests.unit.test_documentation import settings_read

NOT_SET_IN_THE_CLOUD = {
    "HOST": "functions-framework listens where Cloud Run tells it to",
    "PORT": "Cloud Run sets it, and functions-framework reads it",
    "DATA_DIR": "a function keeps nothing on a disk",
    "LOG_FILE": "a function logs to its standard output",
    "LOCAL_TICK": "Cloud Scheduler calls tick",
    "K_SERVICE": "Cloud Run sets it",
    "SSL_CERT_FILE": "a file of the container, which nothing mounts there",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "an extra, whose packages are not deployed: docs/telemetry.md",
    "DATABASE_URL": "the connector and IAM take its place: it would hold a password",
    "POSTGRES_HOST": "the connector knows the address",
    "POSTGRES_PORT": "the connector knows the port",
    "POSTGRES_PASSWORD": "IAM takes its place",
    "DELIVER_AUDIENCE": "the URL at which a request arrives is the audience of the subscription",
    "PUBSUB_EMULATOR_HOST": "there is the real one",
    "TICK_AUDIENCE": "the URL at which a request arrives is the audience of the job",
}
BY_TERRAFORM_ALONE = {
    "API_READ_TOKEN": "the option read_token",
    "CLOUD_SQL_IP_TYPE": "the option private_network; the default is public",
    "HEARTBEAT_URL": "the option heartbeat_url",
    "NOTIFY_URL": "the option notify_url",
    "NOTIFY_SIGNING_SECRET": "the option notify_signing_secret",
}
TUNING = {
    "TICK_BUDGET_SECONDS": "tick_budget_seconds",
    "DELIVERY_CONCURRENCY": "delivery_concurrency",
    "DESTINATION_CONCURRENCY": "destination_concurrency",
    "DESTINATION_RATES": "destination_rates",
    "RETENTION_SUCCESS_DAYS": "retention_success_days",
    "RETENTION_DAYS": "retention_days",
    "LOG_LEVEL": "log_level",
    "DELIVER_WORKERS": "workers",
}
"""Each with its variable of Terraform, which has the name of the substitution of cloudbuild.yaml."""
OF_THE_SERVER = {"THREADS"}
"""What functions-framework reads, and the code does not. Nothing else of it is set: docs/scale.md, "The server"."""

ONLY_WITH_WORKERS = {"DELIVER_WORKERS", "DELIVER_TOPIC"}
"""What `tick` gets of Terraform with workers only, and of cloudbuild.yaml in any case."""

EXACT = re.compile(
    r'google_cloudfunctions2_function\.(?:function\["(\w+)"\]|(tick))\.service_config\[0\]\.environment_variables '
    r"== tomap\(\{\n(.*?)\n    \}\)",
    re.DOTALL,
)


def set_by(deployments: list[Deployment]) -> set[str]:
    return {name for one in deployments for name in (*one.settings, *one.secrets)}


def set_by_terraform() -> set[str]:
    return settings_in(terraform("functions.tf")) | settings_in(terraform("secrets.tf"))


def environments_that_terraform_tests() -> dict[str, set[str]]:
    """What terraform/tests holds to be the whole environment of each function, with the defaults, and of a worker."""
    tests = terraform("tests/defaults.tftest.hcl") + terraform("tests/workers.tftest.hcl")
    return {function or tick: settings_in(body) for function, tick, body in EXACT.findall(tests)}


def test_the_settings_of_terraform_are_found() -> None:
    assert {
        "CLOUD_SQL_INSTANCE",
        "SCHEDULER_JOB",
        "OWN_HOSTS",
        "API_TOKEN",
        "API_READ_TOKEN",
    } <= set_by_terraform()
    assert environments_that_terraform_tests().keys() == {"api", "tick", "deliver", "migrate"}


def test_what_the_cloud_sets_is_a_setting_of_the_code() -> None:
    known = settings_read() | OF_THE_SERVER
    assert set_by_terraform() <= known
    assert set_by(deployed_by_cloudbuild()) <= known
    assert set_by(deployed_by_hand()) <= known


def test_a_setting_of_the_code_is_set_in_the_cloud_or_there_is_a_reason() -> None:
    assert settings_read() - set_by_terraform() == NOT_SET_IN_THE_CLOUD.keys()


def test_cloudbuild_sets_what_terraform_does_but_for_its_options() -> None:
    assert set_by_terraform() - set_by(deployed_by_cloudbuild()) == BY_TERRAFORM_ALONE.keys()
    assert set_by(deployed_by_cloudbuild()) <= set_by_terraform()


def test_each_function_gets_the_settings_of_terraform_from_cloudbuild() -> None:
    optional = {"EGRESS_ALLOW", "CORS_ORIGINS", *ONLY_WITH_WORKERS}
    for one in deployed_by_cloudbuild():
        expected = environments_that_terraform_tests()[one.entry_point] - BY_TERRAFORM_ALONE.keys()
        assert one.settings.keys() - optional == expected - optional, one.name


def test_each_function_of_the_document_gets_the_settings_of_cloudbuild() -> None:
    empty = {"EGRESS_ALLOW": "", "CORS_ORIGINS": ""}
    for built, typed in zip(deployed_by_cloudbuild(), deployed_by_hand(), strict=True):
        expected = dict(built.settings.items() - empty.items())
        expected.pop("DELIVER_TOPIC", None)
        assert expected == {**typed.settings, **{name: expected[name] for name in TUNING if name in expected}}


def test_the_names_that_cloud_run_gives_to_the_functions_are_refused_as_webhooks() -> None:
    (names,) = {hosts_of(step) for step in build()["steps"] if hosts_of(step)}
    assert names == re.findall(r"^OWN_HOSTS=(.*)$", DEPLOY.read_text(), re.MULTILINE)[0].replace(
        "$REGION", "$_REGION"
    )
    assert sorted(names.split(",")) == sorted(
        f"{one.name}-$PROJECT_NUMBER.$_REGION.run.app" for one in deployed_by_cloudbuild()
    )


def hosts_of(step: dict[str, Any]) -> str:
    return environment_of(step, {name: f"${name}" for name in build()["substitutions"]}).get("OWN_HOSTS", "")


def test_the_defaults_of_cloudbuild_are_those_of_terraform() -> None:
    for variable in TUNING.values():
        assert build()["substitutions"][f"_{variable.upper()}"] == variable_default(variable), variable


def test_only_api_and_tick_get_the_token() -> None:
    for deployments in (deployed_by_cloudbuild(), deployed_by_hand()):
        assert {one.entry_point: set(one.secrets) for one in deployments} == {
            "migrate": set(),
            "api": {"API_TOKEN"},
            "deliver": set(),
            "tick": {"API_TOKEN"},
        }


def test_no_setting_of_ours_is_one_of_the_server_by_another_meaning() -> None:
    """functions-framework would take WORKERS for processes, and with 0 of them answer nothing."""
    assert {"WORKERS", "PORT", *OF_THE_SERVER} <= settings_of_the_server()
    assert settings_read() & settings_of_the_server() == {"HOST", "PORT", "K_SERVICE"}


def test_the_server_has_a_thread_for_each_request_that_cloud_run_sends_at_once() -> None:
    """terraform/tests hold the same of Terraform."""
    deployments = [*deployed_by_cloudbuild(), *deployed_by_hand(), *deployed_by_document(BY_RUN)]
    assert {one.entry_point for one in deployments} == {"api", "tick", "deliver", "migrate"}
    for one in deployments:
        assert one.settings["THREADS"] == one.flags["concurrency"], one.name


def settings_of_the_server() -> set[str]:
    sources = Path(functions_framework.__file__).parent.rglob("*.py")
    reads = r"""(?:environ(?:\.get)?[(\[]|envvar=)\s*["']([A-Z_]+)["']"""
    return {name for source in sources for name in re.findall(reads, source.read_text())}


def test_a_setting_that_the_code_does_not_know_would_be_found() -> None:
    assert settings_in(
        'X = { LOG_LEVLE = "INFO", COLOUR = join(",", var.colour) }\n a == B'
    ) - settings_read() == {
        "LOG_LEVLE",
        "COLOUR",
    }


def test_the_environment_of_a_step_has_its_substitutions() -> None:
    step = {"env": ["A=$_B", "C=x=y", "D=$PROJECT_ID"]}
    assert environment_of(step, {"_B": "b"}) == {"A": "b", "C": "x=y", "D": "$PROJECT_ID"}
