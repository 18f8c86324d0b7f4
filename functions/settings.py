"""The settings: everything Insignia reads from its environment (docs/configuration.md).

This is the only place that reads the environment. A missing or wrong setting is a SettingsError, whose one line
names the setting, what was found and what is expected.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from urllib.parse import quote, urlsplit

from domain.errors import InsigniaError, InvalidInput
from domain.rate import Rate, parse_rates
from domain.retention import Retention
from domain.signature import parse_signing_secret
from domain.webhook_url import parse_webhook_url

MIN_TOKEN_LENGTH = 16
MOST_RETENTION_DAYS = 36_500
SAMPLE_TOKENS = {"replace-with-a-long-random-token"}
LOCAL_EGRESS_ALLOW = "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7"
ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
DISCORD_RATES = "discord.com/*=5/2s,discordapp.com/*=5/2s"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

EMAIL = r"[^@\s,]+@[^@\s,]+\.[^@\s,]+"
SQL_INSTANCE = r"([a-z0-9.-]+:)?[a-z0-9-]+:[a-z0-9-]+:[a-z0-9-]+"  # a project may belong to a domain
SCHEDULER_JOB = r"projects/[\w.:-]+/locations/[\w-]+/jobs/[\w-]{1,500}"
TOPIC = r"projects/[\w.:-]+/topics/[A-Za-z][\w.~+%-]{2,254}"
HOST_AND_PORT = r"([\w.-]+|\[[0-9a-f:]+\]):[0-9]{1,5}"
HOST = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
DATABASE_USER = r"[\w.@+-]{1,63}"


class SettingsError(InsigniaError):
    """A setting is missing or wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Checked values. Locally `api_tokens` and `database_url` may be missing: see functions/bootstrap.py."""

    in_cloud: bool
    host: str
    port: int
    api_tokens: tuple[str, ...]
    api_read_tokens: tuple[str, ...]
    cors_origins: tuple[str, ...]
    database_url: str | None
    data_dir: Path
    local_tick: bool
    egress_allow: tuple[IPv4Network | IPv6Network, ...]
    ssl_cert_file: Path | None
    tick_budget_seconds: float
    delivery_concurrency: int
    destination_concurrency: int
    destination_rates: tuple[Rate, ...]
    retention_success_days: int
    retention_days: int
    log_level: str
    log_file: Path | None
    google_cloud_project: str | None
    tick_service_account: str | None
    tick_audience: str | None
    workers: int
    deliver_topic: str | None
    deliver_service_account: str | None
    deliver_audience: str | None
    pubsub_emulator_host: str | None
    migrate_service_accounts: tuple[str, ...]
    migrate_url: str | None
    database_app_users: tuple[str, ...]
    scheduler_job: str | None
    insignia_url: str | None
    own_hosts: tuple[str, ...]
    heartbeat_url: str | None
    notify_url: str | None
    notify_signing_secrets: tuple[str, ...]
    otel_exporter_otlp_endpoint: str | None


def read_environment() -> Mapping[str, str]:
    """The environment; locally on top of what .env says."""
    if "K_SERVICE" in os.environ:
        return os.environ
    from dotenv import dotenv_values

    try:
        file = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    except UnicodeDecodeError as error:
        raise SettingsError(f".env cannot be read ({error.reason}); expected a text in UTF-8.") from None
    return file | os.environ


def environment_with(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process."""
    return {**os.environ, **changes}


def load(environment: Mapping[str, str]) -> Settings:
    """Check the environment; raises SettingsError. An empty value is the same as none."""
    values = {name: value.strip() for name, value in environment.items() if value.strip()}
    in_cloud = "K_SERVICE" in values
    data_dir = Path(values.get("DATA_DIR", ".data"))
    settings = Settings(
        in_cloud=in_cloud,
        host=values.get("HOST", "127.0.0.1"),
        port=whole_number(values, "PORT", 8000, 1, 65535),
        api_tokens=api_tokens(values),
        api_read_tokens=tokens("API_READ_TOKEN", values.get("API_READ_TOKEN", "")),
        cors_origins=cors_origins(values),
        database_url=database_url(values),
        data_dir=data_dir,
        local_tick=one_of(values, "LOCAL_TICK", "on", ("on", "off")) == "on",
        egress_allow=egress_allow(values, "" if in_cloud else LOCAL_EGRESS_ALLOW),
        ssl_cert_file=certificates(values, "SSL_CERT_FILE"),
        tick_budget_seconds=whole_number(values, "TICK_BUDGET_SECONDS", 50, 15, 110),
        delivery_concurrency=whole_number(values, "DELIVERY_CONCURRENCY", 500, 1, 10_000),
        destination_concurrency=whole_number(values, "DESTINATION_CONCURRENCY", 64, 1, 10_000),
        destination_rates=destination_rates(values),
        retention_success_days=whole_number(
            values, "RETENTION_SUCCESS_DAYS", Retention().success_days, 1, MOST_RETENTION_DAYS
        ),
        retention_days=whole_number(values, "RETENTION_DAYS", Retention().other_days, 1, MOST_RETENTION_DAYS),
        log_level=one_of(values, "LOG_LEVEL", "INFO", LOG_LEVELS),
        log_file=log_file(values, None if in_cloud else data_dir / "app.log"),
        google_cloud_project=values.get("GOOGLE_CLOUD_PROJECT"),
        tick_service_account=matching(values, "TICK_SERVICE_ACCOUNT", EMAIL, "an e-mail address"),
        tick_audience=values.get("TICK_AUDIENCE"),
        workers=whole_number(values, "DELIVER_WORKERS", 0, 0, 100),
        deliver_topic=matching(values, "DELIVER_TOPIC", TOPIC, "projects/PROJECT/topics/TOPIC"),
        deliver_service_account=matching(values, "DELIVER_SERVICE_ACCOUNT", EMAIL, "an e-mail address"),
        deliver_audience=values.get("DELIVER_AUDIENCE"),
        pubsub_emulator_host=matching(
            values, "PUBSUB_EMULATOR_HOST", HOST_AND_PORT, "a host and a port such as localhost:8085"
        ),
        migrate_service_accounts=matching_list(values, "MIGRATE_SERVICE_ACCOUNT", EMAIL, "e-mail addresses"),
        migrate_url=https_url(values, "MIGRATE_URL"),
        database_app_users=matching_list(values, "DATABASE_APP_USERS", DATABASE_USER, "database users"),
        scheduler_job=matching(
            values, "SCHEDULER_JOB", SCHEDULER_JOB, "projects/PROJECT/locations/LOCATION/jobs/JOB"
        ),
        insignia_url=https_url(values, "INSIGNIA_URL"),
        otel_exporter_otlp_endpoint=otlp_endpoint(values),
        heartbeat_url=secret_url(values, "HEARTBEAT_URL", "a monitor"),
        notify_url=secret_url(values, "NOTIFY_URL", "who is to be notified"),
        notify_signing_secrets=signing_secrets(values, "NOTIFY_SIGNING_SECRET"),
        own_hosts=matching_list(values, "OWN_HOSTS", HOST, "host names such as api.example.com"),
    )
    if set(settings.api_tokens) & set(settings.api_read_tokens):
        raise SettingsError("API_READ_TOKEN has a token of API_TOKEN; expected another one.")
    if settings.workers and settings.deliver_topic is None:
        raise SettingsError(
            f"DELIVER_WORKERS is '{settings.workers}' and DELIVER_TOPIC is missing; expected the topic that wakes them."
        )
    has_other_callers = settings.migrate_service_accounts or settings.deliver_service_account
    if in_cloud and not (settings.api_tokens or has_other_callers):
        raise SettingsError(
            f"API_TOKEN is missing; expected a secret of at least {MIN_TOKEN_LENGTH} characters."
        )
    if in_cloud and settings.database_url is None:
        raise SettingsError(
            "DATABASE_URL is missing; expected it, or CLOUD_SQL_INSTANCE, or POSTGRES_HOST with the other "
            "POSTGRES_ names."
        )
    return settings


def defaults(*, in_cloud: bool) -> Settings:
    """What holds where nothing is set but what is required."""
    required = {"K_SERVICE": "insignia", "API_TOKEN": "-" * MIN_TOKEN_LENGTH, "DATABASE_URL": "postgresql://"}
    return load(required if in_cloud else {})


def api_tokens(values: Mapping[str, str]) -> tuple[str, ...]:
    return tokens("API_TOKEN", values.get("API_TOKEN", ""))


def tokens(name: str, text: str) -> tuple[str, ...]:
    found = tuple(token for part in text.split(",") if (token := part.strip()))
    for token in found:
        if len(token) < MIN_TOKEN_LENGTH:
            raise SettingsError(
                f"{name} has a token of {len(token)} characters; expected at least {MIN_TOKEN_LENGTH}."
            )
        if token in SAMPLE_TOKENS:
            raise SettingsError(f"{name} is the sample of the documentation; expected a secret of your own.")
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise SettingsError(
                f"{name} has a blank or a non-ASCII character; expected visible ASCII characters."
            )
    return found


def cors_origins(values: Mapping[str, str]) -> tuple[str, ...]:
    origins = tuple(origin for part in values.get("CORS_ORIGINS", "").split(",") if (origin := part.strip()))
    for origin in origins:
        if origin != "*" and not ORIGIN.fullmatch(origin):
            raise SettingsError(
                f"CORS_ORIGINS has {origin!r}; expected * or origins as browsers send them, separated by commas, "
                "such as https://app.example.com,http://localhost:3000."
            )
    return origins


def database_url(values: Mapping[str, str]) -> str | None:
    """DATABASE_URL, else a URL made of CLOUD_SQL_INSTANCE or of the POSTGRES_ names, else None."""
    if url := values.get("DATABASE_URL"):
        if not re.match(r"postgresql(\+pg8000)?://", url):
            scheme = url.split(":", 1)[0] if ":" in url else "no scheme"
            raise SettingsError(
                f"DATABASE_URL starts with '{scheme}'; expected postgresql:// (PostgreSQL only)."
            )
        try:
            _ = urlsplit(url).port
        except ValueError as error:
            raise SettingsError(f"DATABASE_URL cannot be read ({error}); expected a URL.") from None
        return url
    if "CLOUD_SQL_INSTANCE" in values:
        return cloud_sql_url(values)
    if not (host := values.get("POSTGRES_HOST")):
        return None
    login = quote(values.get("POSTGRES_USER", "postgres"), safe="")
    if password := values.get("POSTGRES_PASSWORD"):
        login += f":{quote(password, safe='')}"
    database = quote(values.get("POSTGRES_DB", "insignia"), safe="")
    port = whole_number(values, "POSTGRES_PORT", 5432, 1, 65535)
    if host.startswith("/"):
        socket = quote(f"{host.rstrip('/')}/.s.PGSQL.{port}", safe="")
        return f"postgresql+pg8000://{login}@/{database}?unix_sock={socket}"
    return f"postgresql+pg8000://{login}@{f'[{host}]' if ':' in host else host}:{port}/{database}"


def cloud_sql_url(values: Mapping[str, str]) -> str:
    """As db/engine.py understands it: to this instance over the connector, with a login by IAM."""
    instance = matching(values, "CLOUD_SQL_INSTANCE", SQL_INSTANCE, "PROJECT:REGION:INSTANCE") or ""
    ip_type = one_of(values, "CLOUD_SQL_IP_TYPE", "public", ("public", "private"))
    if "POSTGRES_USER" not in values:
        raise SettingsError(
            "POSTGRES_USER is missing; expected, with CLOUD_SQL_INSTANCE, an IAM user of the database: a service "
            "account's e-mail address without .gserviceaccount.com."
        )
    user = quote(values["POSTGRES_USER"], safe="")
    database = quote(values.get("POSTGRES_DB", "insignia"), safe="")
    return f"postgresql+pg8000://{user}@/{database}?cloud_sql={quote(instance, safe='')}&ip_type={ip_type}"


def egress_allow(values: Mapping[str, str], default: str) -> tuple[IPv4Network | IPv6Network, ...]:
    networks = []
    for text in values.get("EGRESS_ALLOW", default).split(","):
        if not (cidr := text.strip()):
            continue
        try:
            networks.append(ip_network(cidr))
        except ValueError:
            raise SettingsError(
                f"EGRESS_ALLOW has {cidr!r}; expected addresses or CIDRs without host bits, "
                "separated by commas, such as 10.0.0.0/8,fd12::/64,127.0.0.1."
            ) from None
    return tuple(networks)


def certificates(values: Mapping[str, str], name: str) -> Path | None:
    if (text := values.get(name)) is None:
        return None
    try:
        if b"-----BEGIN CERTIFICATE-----" in Path(text).read_bytes():
            return Path(text)
        reason = "it has none"
    except OSError as error:
        reason = str(error.strerror)
    raise SettingsError(f"{name} is {text!r} ({reason}); expected a file of certificates in PEM.")


def destination_rates(values: Mapping[str, str]) -> tuple[Rate, ...]:
    try:
        return parse_rates(values.get("DESTINATION_RATES", DISCORD_RATES))
    except InvalidInput as error:
        raise SettingsError(f"DESTINATION_RATES {error}") from None


def log_file(values: Mapping[str, str], default: Path | None) -> Path | None:
    return Path(values["LOG_FILE"]) if "LOG_FILE" in values else default


def whole_number(values: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = values.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not least <= int(text) <= most:
        raise SettingsError(f"{name} is '{text}'; expected a whole number from {least} to {most}.")
    return int(text)


def one_of(values: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    text = values.get(name, default)
    for value in allowed:
        if text.lower() == value.lower():
            return value
    raise SettingsError(f"{name} is '{text}'; expected one of {', '.join(allowed)}.")


def matching(values: Mapping[str, str], name: str, pattern: str, expected: str) -> str | None:
    text = values.get(name)
    if text is not None and not re.fullmatch(pattern, text, re.ASCII):
        raise SettingsError(f"{name} is {text!r}; expected {expected}.")
    return text


def matching_list(values: Mapping[str, str], name: str, pattern: str, expected: str) -> tuple[str, ...]:
    items = tuple(item for part in values.get(name, "").split(",") if (item := part.strip()))
    for item in items:
        if not re.fullmatch(pattern, item, re.ASCII):
            raise SettingsError(f"{name} has {item!r}; expected {expected}, separated by commas.")
    return items


def https_url(values: Mapping[str, str], name: str) -> str | None:
    """Without a slash at its end; http is accepted for this machine only."""
    text = values.get(name)
    if text is None:
        return None
    try:
        url = urlsplit(text)
        is_safe = url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or ""))
        is_plain = url.hostname and not (url.username or url.password or url.query or url.fragment)
        _ = url.port
    except ValueError:
        is_safe = False
    if not (is_safe and is_plain):
        raise SettingsError(f"{name} is {text!r}; expected the https:// URL of the function.")
    return text.rstrip("/")


def secret_url(values: Mapping[str, str], name: str, of: str) -> str | None:
    """Not in any message: whoever knows it can call it too."""
    url = values.get(name)
    try:
        return url and parse_webhook_url(url).url
    except InvalidInput as error:
        raise SettingsError(
            f"{name} cannot be called; expected the http:// or https:// URL of {of}. {error}"
        ) from None


def signing_secrets(values: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Several while the receiver changes over."""
    secrets = tuple(secret for part in values.get(name, "").split(",") if (secret := part.strip()))
    for secret in secrets:
        try:
            parse_signing_secret(secret)
        except InvalidInput as error:
            raise SettingsError(
                f"{name} has a secret that cannot be used; expected whsec_ and base64. {error}"
            ) from None
    return secrets


def otlp_endpoint(values: Mapping[str, str]) -> str | None:
    """Without a slash at its end."""
    expected = "the http:// or https:// URL of an OTLP receiver, such as http://127.0.0.1:4318"
    url = matching(values, "OTEL_EXPORTER_OTLP_ENDPOINT", r"https?://[^\s/?#@]+(/[^\s?#@]*)?", expected)
    return None if url is None else url.rstrip("/")


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
