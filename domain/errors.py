"""The errors a caller can cause.

InsigniaError
├── InvalidInput        a value breaks a rule (ValueError, so that pydantic collects it with its field)
│   ├── InvalidSchedule
│   ├── InvalidTimezone
│   └── InvalidWebhookUrl
├── NotFound            nothing has this id
├── Conflict            the thing is there, but not in a state that allows this
├── PreconditionFailed  the thing has changed since the caller read it
└── Unavailable         try again later: the database is away, busy or behind
"""


class InsigniaError(Exception):
    """Base of all expected errors; `str()` is one sentence: what is wrong and what to do."""


class InvalidInput(InsigniaError, ValueError):
    """A value that breaks a rule."""


class InvalidSchedule(InvalidInput):
    """Not a schedule of the grammar in docs/engine.md, Schedule."""


class InvalidTimezone(InvalidInput):
    """Not an IANA time zone."""


class InvalidWebhookUrl(InvalidInput):
    """Not an http(s) URL that can be called safely."""


class NotFound(InsigniaError):
    """Nothing has this id."""


class Conflict(InsigniaError):
    """The present state does not allow this change."""


class PreconditionFailed(InsigniaError):
    """The thing has changed since the caller read it."""


class Unavailable(InsigniaError):
    """The database is away, overloaded or has an older schema; the same request may succeed later."""
