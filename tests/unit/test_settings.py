"""Settings: what is accepted, and the one line that says what is wrong."""

from ipaddress import ip_network
from pathlib import Path

import certifi
import pytest

from functions.settings import Settings, SettingsError, load

TOKEN = "0123456789abcdef"
CLOUD = {"K_SERVICE": "api", "API_TOKEN": TOKEN, "DATABASE_URL": "postgresql://u@db.example.com/d"}


def test_a_laptop_needs_no_setting() -> None:
    settings = load({})
    assert (settings.host, settings.port, settings.database_url) == ("127.0.0.1", 8000, None)
    assert settings.log_file == Path(".data/app.log")
    assert not settings.in_cloud


def test_a_laptop_may_call_its_own_networks_but_nothing_link_local() -> None:
    assert [str(network) for network in load({}).egress_allow] == [
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fc00::/7",
    ]


def test_the_cloud_may_call_public_addresses_only() -> None:
    assert load(CLOUD).egress_allow == ()


def test_ssl_cert_file_is_a_file_of_certificates(tmp_path: Path) -> None:
    assert load({}).ssl_cert_file is None
    assert str(load({"SSL_CERT_FILE": certifi.where()}).ssl_cert_file) == certifi.where()
    no_certificate = tmp_path / "key.pem"
    no_certificate.write_text("-----BEGIN PRIVATE KEY-----\n")
    for path, reason in (
        (no_certificate, "it has none"),
        (tmp_path / "none", "No such file"),
        (tmp_path, "Is a dir"),
    ):
        with pytest.raises(
            SettingsError, match=f"^SSL_CERT_FILE is '{path}' \\({reason}.*expected a file of cert"
        ):
            load({"SSL_CERT_FILE": str(path)})


@pytest.mark.parametrize("place", [{}, CLOUD])
def test_egress_allow_replaces_the_default(place: dict[str, str]) -> None:
    allowed = load(place | {"EGRESS_ALLOW": " 10.8.0.0/16, 192.168.1.7,fd12::1 ,"}).egress_allow
    assert allowed == (ip_network("10.8.0.0/16"), ip_network("192.168.1.7/32"), ip_network("fd12::1/128"))


@pytest.mark.parametrize(
    "cidr",
    ["10.0.0.7/8", "fc00::1/7", "10.0.0.0/33", "10.0.0", "localhost", "10.0.0.0/8 ::1", "*", "10/8", "8"],
)
def test_a_wrong_cidr_is_shown_with_what_is_expected(cidr: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"EGRESS_ALLOW": f"127.0.0.1,{cidr}"})
    assert str(caught.value).startswith(
        f"EGRESS_ALLOW has '{cidr}'; expected addresses or CIDRs without host bits"
    )


def test_the_cloud_has_no_local_defaults() -> None:
    settings = load(CLOUD)
    assert (settings.in_cloud, settings.log_file) == (True, None)


@pytest.mark.parametrize("name", ["API_TOKEN", "DATABASE_URL"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_the_cloud_needs_a_token_and_a_database(name: str, value: str | None) -> None:
    environment = {key: text for key, text in (CLOUD | {name: value}).items() if text is not None}
    with pytest.raises(SettingsError, match=f"^{name} is missing; expected"):
        load(environment)


@pytest.mark.parametrize(
    ("token", "complaint"),
    [
        ("short", "a token of 5 characters; expected at least 16"),
        ("replace-with-a-long-random-token", "sample of the documentation"),
        (f"{TOKEN},short", "a token of 5 characters"),
        ("0123456789 abcdef", "a blank"),
        ("0123456789abcdéf", "non-ASCII"),
    ],
)
def test_a_weak_token_is_refused_without_being_shown(token: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as caught:
        load({"API_TOKEN": token})
    assert token not in str(caught.value)


def test_several_tokens_allow_rotation() -> None:
    assert load({"API_TOKEN": f"{TOKEN}-new , {TOKEN}-old,"}).api_tokens == (f"{TOKEN}-new", f"{TOKEN}-old")


def test_the_sample_of_the_documentation_is_refused() -> None:
    sample = Path(".env.example").read_text()
    (line,) = [line for line in sample.splitlines() if "API_TOKEN=" in line]
    with pytest.raises(SettingsError, match="sample"):
        load({"API_TOKEN": line.split("=", 1)[1]})


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({"DATABASE_URL": "postgresql://u:p@h/d"}, "postgresql://u:p@h/d"),
        ({"DATABASE_URL": "postgresql+pg8000://h/d", "POSTGRES_HOST": "x"}, "postgresql+pg8000://h/d"),
        ({"POSTGRES_HOST": "db.example.com"}, "postgresql+pg8000://postgres@db.example.com:5432/insignia"),
        ({"POSTGRES_HOST": "::1", "POSTGRES_PORT": "6"}, "postgresql+pg8000://postgres@[::1]:6/insignia"),
        (
            {"POSTGRES_HOST": "h", "POSTGRES_USER": "a@b", "POSTGRES_PASSWORD": "p/:?", "POSTGRES_DB": "d d"},
            "postgresql+pg8000://a%40b:p%2F%3A%3F@h:5432/d%20d",
        ),
        (
            {"POSTGRES_HOST": "/cloudsql/p:r:i", "POSTGRES_USER": "u"},
            "postgresql+pg8000://u@/insignia?unix_sock=%2Fcloudsql%2Fp%3Ar%3Ai%2F.s.PGSQL.5432",
        ),
    ],
)
def test_the_database_is_a_url_or_made_of_parts(environment: dict[str, str], url: str) -> None:
    assert load(environment).database_url == url


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("PORT", "http", "PORT is 'http'; expected a whole number from 1 to 65535."),
        ("PORT", "70000", "PORT is '70000'; expected a whole number from 1 to 65535."),
        ("TICK_BUDGET_SECONDS", "5", "TICK_BUDGET_SECONDS is '5'; expected a whole number from 15 to 110."),
        (
            "DELIVERY_CONCURRENCY",
            "0",
            "DELIVERY_CONCURRENCY is '0'; expected a whole number from 1 to 10000.",
        ),
        ("LOCAL_TICK", "maybe", "LOCAL_TICK is 'maybe'; expected one of on, off."),
        ("RETENTION_DAYS", "0", "RETENTION_DAYS is '0'; expected a whole number from 1 to 36500."),
        (
            "RETENTION_SUCCESS_DAYS",
            "30d",
            "RETENTION_SUCCESS_DAYS is '30d'; expected a whole number from 1 to 36500.",
        ),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL is 'LOUD'; expected one of DEBUG, INFO, WARNING, ERROR, CRITICAL."),
        ("DATABASE_URL", "mysql://h/d", "DATABASE_URL starts with 'mysql'; expected postgresql://"),
        ("DATABASE_URL", "postgresql://h:x/d", "DATABASE_URL cannot be read (Port could not be cast"),
        ("DATABASE_URL", "nonsense", "DATABASE_URL starts with 'no scheme'; expected postgresql://"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_found_and_expected(
    name: str, value: str, complaint: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: value})
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_a_token_that_may_only_read_is_checked_like_the_other_and_is_another() -> None:
    assert load({"API_READ_TOKEN": f"{TOKEN}-a,{TOKEN}-b"}).api_read_tokens == (f"{TOKEN}-a", f"{TOKEN}-b")
    for value, complaint in (
        ("short", "API_READ_TOKEN has a token of 5"),
        (f"x,{TOKEN}", "API_READ_TOKEN has"),
    ):
        with pytest.raises(SettingsError, match=complaint):
            load({"API_READ_TOKEN": value})
    with pytest.raises(SettingsError, match=r"^API_READ_TOKEN has a token of API_TOKEN; expected another"):
        load({"API_TOKEN": f"{TOKEN},{TOKEN}2", "API_READ_TOKEN": f"{TOKEN}3,{TOKEN}2"})


def test_each_webhook_of_discord_has_a_rate_unless_others_are_said() -> None:
    assert [str(rate) for rate in load({}).destination_rates] == [
        "discord.com/*=5/2s",
        "discordapp.com/*=5/2s",
    ]
    assert load({"DESTINATION_RATES": "none"}).destination_rates == ()
    with pytest.raises(
        SettingsError, match=r"^DESTINATION_RATES has 'example.com=5'; expected a host, or host/"
    ):
        load({"DESTINATION_RATES": "example.com=5"})


def test_origins_are_as_browsers_send_them() -> None:
    origins = "https://app.example.com, http://localhost:3000,http://[::1]:80"
    assert load({"CORS_ORIGINS": origins}).cors_origins == tuple(origins.replace(" ", "").split(","))
    assert load({"CORS_ORIGINS": "*"}).cors_origins == ("*",)
    assert load({}).cors_origins == ()


@pytest.mark.parametrize(
    "origin", ["app.example.com", "https://app.example.com/", "https://App.example.com", "ftp://a", "null"]
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(SettingsError, match=r"^CORS_ORIGINS has '.*'; expected"):
        load({"CORS_ORIGINS": f"https://a.example.com,{origin}"})


INSTANCE = {"CLOUD_SQL_INSTANCE": "p:europe-west1:insignia", "POSTGRES_USER": "api@p.iam"}


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        (
            INSTANCE,
            "postgresql+pg8000://api%40p.iam@/insignia?cloud_sql=p%3Aeurope-west1%3Ainsignia&ip_type=public",
        ),
        (
            INSTANCE
            | {
                "CLOUD_SQL_INSTANCE": "example.com:p:r:i",
                "CLOUD_SQL_IP_TYPE": "PRIVATE",
                "POSTGRES_DB": "d/d",
                "POSTGRES_HOST": "db.example.com",
            },
            "postgresql+pg8000://api%40p.iam@/d%2Fd?cloud_sql=example.com%3Ap%3Ar%3Ai&ip_type=private",
        ),
        (INSTANCE | {"DATABASE_URL": "postgresql://h/d"}, "postgresql://h/d"),
    ],
)
def test_an_instance_of_cloud_sql_comes_after_a_url_and_before_a_host(
    environment: dict[str, str], url: str
) -> None:
    assert load(environment).database_url == url


def test_an_instance_of_cloud_sql_needs_a_user() -> None:
    with pytest.raises(SettingsError, match=r"^POSTGRES_USER is missing; expected, with CLOUD_SQL_INSTANCE"):
        load(INSTANCE | {"POSTGRES_USER": ""})


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("CLOUD_SQL_INSTANCE", "insignia", "'insignia'; expected PROJECT:REGION:INSTANCE."),
        ("CLOUD_SQL_INSTANCE", "p:r:i:j:k", "'p:r:i:j:k'; expected PROJECT:REGION:INSTANCE."),
        ("CLOUD_SQL_INSTANCE", "p:r:i&a=b", "'p:r:i&a=b'; expected PROJECT:REGION:INSTANCE."),
        ("CLOUD_SQL_IP_TYPE", "psc", "'psc'; expected one of public, private."),
        ("TICK_SERVICE_ACCOUNT", "scheduler", "'scheduler'; expected an e-mail address."),
        ("TICK_SERVICE_ACCOUNT", "a@b.c,d@e.f", "'a@b.c,d@e.f'; expected an e-mail address."),
        ("DELIVER_WORKERS", "101", "'101'; expected a whole number from 0 to 100."),
        ("DELIVER_TOPIC", "insignia-deliver", "'insignia-deliver'; expected projects/PROJECT/topics/TOPIC."),
        ("DELIVER_TOPIC", "projects/p/topics/t/x", "'projects/p/topics/t/x'; expected projects/PROJECT"),
        ("DELIVER_SERVICE_ACCOUNT", "pubsub", "'pubsub'; expected an e-mail address."),
        (
            "PUBSUB_EMULATOR_HOST",
            "http://localhost:8085",
            "'http://localhost:8085'; expected a host and a port",
        ),
        ("MIGRATE_URL", "migrate.example.com", "'migrate.example.com'; expected the https:// URL"),
        ("MIGRATE_URL", "http://migrate.example.com", "'http://migrate.example.com'; expected the https://"),
        (
            "MIGRATE_URL",
            "http://127.0.0.1.example.com",
            "'http://127.0.0.1.example.com'; expected the https://",
        ),
        ("MIGRATE_URL", "https://u:p@migrate.example.com", "'https://u:p@migrate.example.com'; expected"),
        ("MIGRATE_URL", "https://migrate.example.com/?a=b", "'https://migrate.example.com/?a=b'; expected"),
        ("MIGRATE_URL", "https://migrate.example.com:x", "'https://migrate.example.com:x'; expected"),
        ("MIGRATE_URL", "https://", "'https://'; expected"),
        (
            "SCHEDULER_JOB",
            "insignia-tick",
            "'insignia-tick'; expected projects/PROJECT/locations/LOCATION/jobs",
        ),
        ("SCHEDULER_JOB", "projects/p/locations/l/jobs/j/..", "'projects/p/locations/l/jobs/j/..'; expected"),
        (
            "SCHEDULER_JOB",
            "projects/p/locations/l/jobs/j:run",
            "'projects/p/locations/l/jobs/j:run'; expected",
        ),
    ],
)
def test_a_wrong_setting_of_the_cloud_is_named_with_what_was_found_and_expected(
    name: str, value: str, complaint: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(INSTANCE | {name: value})
    assert str(caught.value).startswith(f"{name} is {complaint}")


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("DATABASE_APP_USERS", 'api@p.iam,a"b', "'a\"b'"),
        ("DATABASE_APP_USERS", "a b", "'a b'"),
        ("MIGRATE_SERVICE_ACCOUNT", "@b.c", "'@b.c'"),
        ("MIGRATE_SERVICE_ACCOUNT", "tick@b.c d@e.f", "'tick@b.c d@e.f'"),
        ("DATABASE_APP_USERS", f"api,{'x' * 64}", f"'{'x' * 64}'"),
        ("OWN_HOSTS", "api.example.com, https://tick.example.com", "'https://tick.example.com'"),
        ("OWN_HOSTS", "api.example.com:443", "'api.example.com:443'"),
    ],
)
def test_a_wrong_item_of_a_list_is_shown(name: str, value: str, wrong: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({name: value})
    assert str(caught.value).startswith(f"{name} has {wrong}; expected ")
    assert str(caught.value).endswith(", separated by commas.")


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:4318", "grpc://example.com", "http://user@example.com", "http://example.com/?a=b", "http://"],
)
def test_what_is_no_receiver_of_otlp_is_refused(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load({"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    assert str(caught.value) == (
        f"OTEL_EXPORTER_OTLP_ENDPOINT is {url!r}; expected the http:// or https:// URL of an OTLP receiver, "
        "such as http://127.0.0.1:4318."
    )


def test_what_the_cloud_sets_is_read() -> None:
    settings = load(
        {
            "TICK_SERVICE_ACCOUNT": "scheduler@p.example.com",
            "TICK_AUDIENCE": "https://tick.example.com",
            "DELIVER_WORKERS": "4",
            "DELIVER_TOPIC": "projects/example.com:p/topics/insignia-deliver",
            "DELIVER_SERVICE_ACCOUNT": "pubsub@p.example.com",
            "DELIVER_AUDIENCE": "https://deliver.example.com",
            "PUBSUB_EMULATOR_HOST": "[::1]:8085",
            "MIGRATE_SERVICE_ACCOUNT": "tick@p.example.com, deliver@p.example.com",
            "MIGRATE_URL": "https://migrate.example.com/",
            "DATABASE_APP_USERS": " api@p.iam, tick@p.iam ,",
            "SCHEDULER_JOB": "projects/example.com:p/locations/europe-west1/jobs/insignia_tick",
            "OWN_HOSTS": "api.example.com,Tick.example.com",
        }
    )
    assert settings.tick_service_account == "scheduler@p.example.com"
    assert settings.tick_audience == "https://tick.example.com"
    assert settings.workers == 4
    assert settings.deliver_topic == "projects/example.com:p/topics/insignia-deliver"
    assert settings.deliver_service_account == "pubsub@p.example.com"
    assert settings.deliver_audience == "https://deliver.example.com"
    assert settings.pubsub_emulator_host == "[::1]:8085"
    assert settings.migrate_service_accounts == ("tick@p.example.com", "deliver@p.example.com")
    assert settings.migrate_url == "https://migrate.example.com"
    assert settings.database_app_users == ("api@p.iam", "tick@p.iam")
    assert settings.scheduler_job == "projects/example.com:p/locations/europe-west1/jobs/insignia_tick"
    assert settings.own_hosts == ("api.example.com", "Tick.example.com")


def test_workers_need_a_topic() -> None:
    with pytest.raises(
        SettingsError, match=r"^DELIVER_WORKERS is '2' and DELIVER_TOPIC is missing; expected"
    ):
        load({"DELIVER_WORKERS": "2"})
    assert load({}).workers == 0


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080/"])
def test_http_is_for_this_machine_only(url: str) -> None:
    assert load({"MIGRATE_URL": url}).migrate_url == url.rstrip("/")


def test_a_function_that_one_account_alone_may_call_needs_no_token() -> None:
    migrate = {"K_SERVICE": "migrate", "DATABASE_URL": CLOUD["DATABASE_URL"]}
    assert load(migrate | {"MIGRATE_SERVICE_ACCOUNT": "tick@p.example.com"}).api_tokens == ()
    assert load(migrate | {"DELIVER_SERVICE_ACCOUNT": "pubsub@p.example.com"}).api_tokens == ()
    for account in ({}, {"TICK_SERVICE_ACCOUNT": "scheduler@p.example.com"}):
        with pytest.raises(SettingsError, match=r"^API_TOKEN is missing"):
            load(migrate | account)


def test_log_levels_are_known_in_any_case() -> None:
    settings: Settings = load({"LOG_LEVEL": "debug"})
    assert settings.log_level == "DEBUG"


@pytest.mark.parametrize("name", ["HEARTBEAT_URL", "NOTIFY_URL"])
@pytest.mark.parametrize(
    "url", ["monitor.example.com/secret", "ftp://example.com/secret", "http://u:secret@example.com/"]
)
def test_a_secret_url_that_cannot_be_called_is_refused_and_not_repeated(name: str, url: str) -> None:
    assert load({"HEARTBEAT_URL": "https://monitor.example.com/ping"}).heartbeat_url is not None
    with pytest.raises(SettingsError, match=rf"^{name} cannot be called; expected") as refusal:
        load({name: url})
    assert "secret" not in str(refusal.value)


def test_notifications_are_signed_by_one_key_or_by_several() -> None:
    keys = ["whsec_" + letter * 32 for letter in "ab"]
    assert load({"NOTIFY_SIGNING_SECRET": " , ".join(keys)}).notify_signing_secrets == tuple(keys)
    with pytest.raises(SettingsError, match=r"^NOTIFY_SIGNING_SECRET has a secret that cannot") as refusal:
        load({"NOTIFY_SIGNING_SECRET": f"{keys[0]},whsec_short"})
    assert "short" not in str(refusal.value)
