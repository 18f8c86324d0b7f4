"""`make simulate`, for half an hour and few tasks."""

import re
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tests.faults.durable_receiver import DurableReceiver
from tests.faults.simulated_clock import install_simulated_clock
from tests.faults.simulation import DESTINATIONS, Simulation, Size


def test_every_slot_of_a_simulation_is_accounted_for(
    admin: Engine, engine: Engine, database_url: str, tmp_path: Path
) -> None:
    install_simulated_clock(admin, database_url)
    told: list[str] = []
    with DurableReceiver(tmp_path, DESTINATIONS) as receiver:
        size = Size(minutes=30, tasks=100)
        simulation = Simulation(size, database_url, tmp_path, receiver, told.append)
        simulation.run()
        table = dict(re.findall(r"^(\w+) +([\d,]+)", "\n".join(told), re.MULTILINE))
        assert {"success", "missed", "skipped", "failed", "together"} <= table.keys()
        deactivated = 2
        assert 3_000 - 30 * deactivated < int(table["together"].replace(",", "")) <= 3_000
        assert simulation.kills == 2

        with engine.begin() as connection:  # the search must be one that finds
            connection.execute(
                text("DELETE FROM task_logs WHERE id = (SELECT min(id::text)::uuid FROM task_logs)")
            )
        with pytest.raises(AssertionError, match="stands in no row"):
            simulation.judge(engine)
