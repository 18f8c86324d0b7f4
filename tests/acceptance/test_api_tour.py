"""The commands of docs/api.md, run as they stand there."""

from functools import partial
from pathlib import Path

from tests.acceptance.server import NOWHERE, TOKEN, Api, Server
from tests.acceptance.shell import URL, blocks_of, needs_shell, run

TOUR = (Path(__file__).parents[2] / "docs/api.md").read_text()


@needs_shell
def test_each_command_of_the_tour_does_what_it_says(api: Api, server: Server, tmp_path: Path) -> None:
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data/api-token").write_text(TOKEN)
    blocks = blocks_of(TOUR.replace(URL, server.url).replace("http://127.0.0.1:9000", NOWHERE))
    health, preview, test, create, read, change, find, happened, stats, record, *more = blocks
    export, apply, run_now, retry, delete = more
    type_in = partial(run, tmp_path)
    assert '"status":"healthy"' in type_in(health)
    assert '"words":"At 02:30"' in type_in(preview)
    assert '"error":"connect"' in type_in(test)
    assert api.get("/tasks/")["total"] == 0

    type_in(create)
    type_in(create)
    (task,) = api.get("/tasks/")["tasks"]
    assert task["tags"] == ["billing"]

    assert type_in(read) == "304\n"
    assert '"schedule":"0 9 * * MON-FRI"' in type_in(change)
    assert type_in(find).count(task["id"]) == 2

    assert type_in(happened).count('"task_logs":[]') == 2
    type_in(record)
    assert type_in(happened).count('"source":"api"') == 2
    assert '"success_rate":0.0' in type_in(stats)

    type_in(export)
    assert '"updated":0,"deleted":0,"unchanged":1' in type_in(apply)

    assert '"source":"manual"' in type_in(run_now)
    type_in(run_now)
    assert '"retry_of":"' in type_in(retry)
    assert api.get("/task-logs/", source="manual")["total"] == 2

    type_in(delete)
    assert api.get("/tasks/")["total"] == 0
