"""What the page of the system shows of the settings."""

from functions.settings import load
from functions.ui.system import shown_settings
from tests.unit.test_documentation import settings_documented

SECRETS = {
    "API_TOKEN": "secret-token-of-the-api",
    "API_READ_TOKEN": "secret-token-for-reading",
    "DATABASE_URL": "postgresql://secret-user:secret-password@secret-host/d",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318/secret-path",
    "HEARTBEAT_URL": "https://monitor.example.com/secret",
    "NOTIFY_URL": "https://chat.example.com/secret",
    "NOTIFY_SIGNING_SECRET": "whsec_" + "secret+/" * 5,
}


def test_every_setting_is_shown_or_part_of_one_that_is() -> None:
    names = [shown.name for shown in shown_settings(load({}))]
    parts_of_database_url = {
        name for name in settings_documented() if name.startswith(("POSTGRES", "CLOUD_SQL"))
    }
    assert len(names) == len(set(names))
    assert set(names) == settings_documented().keys() - parts_of_database_url


def test_secrets_are_set_or_not_set() -> None:
    shown = list(shown_settings(load(SECRETS)))
    assert "secret" not in repr(shown)
    told = {one.name: (one.value, one.is_default) for one in shown}
    assert {told[name] for name in SECRETS} == {("set", None)}
    assert {(one.value, one.is_default) for one in shown_settings(load({})) if one.name in SECRETS} == {
        ("not set", None)
    }


def test_what_was_changed_is_told_apart_from_defaults_in_the_cloud_as_well() -> None:
    required = {"API_TOKEN": "x" * 16, "DATABASE_URL": "postgresql://u@h/d"}
    for place in ({}, required | {"K_SERVICE": "api"}):
        assert not [one for one in shown_settings(load(place)) if one.is_default is False]
        changed = load(place | {"EGRESS_ALLOW": "10.8.0.0/16,fd12::1", "LOCAL_TICK": "off"})
        told = {one.name: one.value for one in shown_settings(changed) if one.is_default is False}
        assert told == {"EGRESS_ALLOW": "10.8.0.0/16, fd12::1/128", "LOCAL_TICK": "off"}
