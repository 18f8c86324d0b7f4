"""The commands of docs/api.md, run as they stand there."""

from functools import partial
from pathlib import Path

from tests.acceptance.server import TOKEN, Api, Server
from tests.acceptance.shell import URL, blocks_of, needs_shell, run

TOUR = (Path(__file__).parents[2] / "docs/api.md").read_text()


@needs_shell
def test_each_command_of_the_tour_does_what_it_says(api: Api, server: Server, tmp_path: Path) -> None:
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data/api-token").write_text(TOKEN)
    health, create, read, change, find, happened, record, delete = blocks_of(TOUR.replace(URL, server.url))
    type_in = partial(run, tmp_path)
    assert '"status":"healthy"' in type_in(health)

    type_in(create)
    type_in(create)
    (task,) = api.get("/tasks/")["tasks"]
    assert task["tags"] == ["billing"]

    assert type_in(read) == "304\n"
    assert '"schedule":"0 9 * * MON-FRI"' in type_in(change)
    assert type_in(find).count(task["id"]) == 2

    assert type_in(happened).count('"task_logs":[]') == 2
    assert '"source":"api"' in type_in(record)
    assert type_in(happened).count('"source":"api"') == 1

    type_in(delete)
    assert api.get("/tasks/")["total"] == 0
