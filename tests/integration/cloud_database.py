"""A database as Terraform makes it, with the users of the functions."""

from dataclasses import dataclass

from sqlalchemy import Engine, make_url

from db.engine import make_engine
from db.migrations import upgrade

OWNERS, MIGRATOR, APP, OTHER_APP = "owners", "migrate@your-project-id.iam", "tick@your-project-id.iam", "api"


@dataclass(frozen=True, slots=True)
class Cloud:
    """An empty database, owned by a role that the migrator belongs to, and no superuser."""

    url: str

    def url_as(self, user: str) -> str:
        return make_url(self.url).set(username=user).render_as_string(hide_password=False)

    def engine_as(self, user: str) -> Engine:
        return make_engine(self.url_as(user), pool_size=0)

    def migrate(self, *app_users: str) -> str:
        return upgrade(self.url_as(MIGRATOR), app_users=app_users)
