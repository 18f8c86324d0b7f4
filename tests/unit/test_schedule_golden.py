"""The next runs of many schedules, as they were when they were last looked at by a person.

A change of croniter, of the time zone data or of our code that moves a run shows here as a difference. If it
is meant, write the file anew with `python -m tests.unit.test_schedule_golden` and read what changed. Zones
whose law changes often are asked about years that are over.
"""

from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

from domain.schedule import runs

GOLDEN = Path(__file__).parent / "data" / "next_runs.txt"
COUNT = 5
CASES = """
* * * * *                    | UTC                  | 2026-01-01T00:00
*/15 * * * *                 | UTC                  | 2026-01-01T00:07
7-59/26 * * * *              | UTC                  | 2026-01-01T00:07
28 2 * * *                   | UTC                  | 2026-02-27T02:28
0 9 * * MON-FRI              | UTC                  | 2026-01-01T12:00
0 9 * * FRI-SUN              | UTC                  | 2026-01-01T12:00
30 8 1,15 * *                | UTC                  | 2026-01-01T12:00
0 0 L * *                    | UTC                  | 2026-01-31T00:00
0 0 1,L FEB *                | UTC                  | 2026-01-31T00:00
0 0 29 2 *                   | UTC                  | 2026-01-01T00:00
0 0 29 2 */7                 | UTC                  | 2026-01-01T00:00
0 0 31 * *                   | UTC                  | 2026-01-31T00:00
0 0 30,31 * *                | UTC                  | 2026-01-31T00:00
0 0 13 * FRI                 | UTC                  | 2026-02-01T00:00
0 0 31 2 MON                 | UTC                  | 2026-02-01T00:00
0 0 */10 * FRI               | UTC                  | 2026-02-01T00:00
0 0 1-7 * */2                | UTC                  | 2026-02-01T00:00
0 12 * * MON#1               | UTC                  | 2026-02-01T00:00
0 12 * * 7#5                 | UTC                  | 2026-02-01T00:00
0 12 * * 1#1,1#3,FRI         | UTC                  | 2026-02-01T00:00
0 12 10 * 2#2                | UTC                  | 2026-02-01T00:00
0 0 * */5 0-7                | UTC                  | 2026-01-29T00:00
0 0 1 JAN-DEC/3 *            | UTC                  | 2026-01-29T00:00
@hourly                      | UTC                  | 2026-12-31T21:30
@daily                       | UTC                  | 2026-12-30T21:30
@weekly                      | UTC                  | 2026-12-30T21:30
@monthly                     | UTC                  | 2026-12-30T21:30
@yearly                      | UTC                  | 2026-12-30T21:30
28 2 * * *                   | Europe/Berlin        | 2026-03-28T00:00
0,30 2,3 * * *               | Europe/Berlin        | 2026-03-28T22:00
30 * * * *                   | Europe/Berlin        | 2026-03-28T23:00
*/30 2 * * *                 | Europe/Berlin        | 2026-03-28T00:45
28 2 * * *                   | Europe/Berlin        | 2026-10-24T00:00
0,30 2,3 * * *               | Europe/Berlin        | 2026-10-24T22:00
30 * * * *                   | Europe/Berlin        | 2026-10-24T23:00
*/30 2 * * *                 | Europe/Berlin        | 2026-10-24T00:45
*/30 2 * * *                 | Europe/Berlin        | 2026-10-25T00:45
0 */2 * * *                  | Europe/Berlin        | 2026-10-24T21:00
0 0-23/2 * * *               | Europe/Berlin        | 2026-10-24T21:00
0 1 * * *                    | Europe/Dublin        | 2026-03-28T00:00
0 1 * * *                    | Europe/Dublin        | 2026-10-24T00:00
*/20 1 * * *                 | Europe/Dublin        | 2026-10-24T00:30
30 2 * * *                   | America/New_York     | 2026-03-07T00:00
30 1 * * SUN                 | America/New_York     | 2026-10-30T00:00
15 * 1 NOV *                 | America/New_York     | 2026-11-01T04:30
0 9 L * *                    | America/New_York     | 2026-01-31T14:00
30 2 * * *                   | America/St_Johns     | 2026-03-07T00:00
45 1 * * *                   | America/St_Johns     | 2026-10-31T00:00
10 2 * * *                   | Australia/Lord_Howe  | 2024-10-04T15:30
10,40 * * * *                | Australia/Lord_Howe  | 2024-10-05T14:00
45 1 * * *                   | Australia/Lord_Howe  | 2024-04-05T00:00
*/15 1 * * *                 | Australia/Lord_Howe  | 2024-04-06T14:40
0 3 * * *                    | Pacific/Chatham      | 2024-09-27T15:00
0 3 * * *                    | Pacific/Chatham      | 2024-04-05T15:00
*/30 * * * *                 | Pacific/Chatham      | 2024-04-06T13:00
@daily                       | America/Santiago     | 2024-09-06T12:00
30 23 * * *                  | America/Santiago     | 2024-04-05T12:00
@daily                       | Africa/Cairo         | 2024-04-24T12:00
30 23 * * THU                | Africa/Cairo         | 2024-10-24T12:00
30 2 * * *                   | Africa/Casablanca    | 2024-03-09T00:00
30 2 * * *                   | Africa/Casablanca    | 2024-04-12T12:00
@daily                       | Asia/Beirut          | 2024-03-29T12:00
*/30 0,23 * * *              | Asia/Beirut          | 2024-10-26T19:45
0 12 * * *                   | Pacific/Apia         | 2011-12-29T00:00
0 */6 * * *                  | Pacific/Apia         | 2011-12-29T10:00
5 4 * * SUN                  | Asia/Kathmandu       | 2026-01-01T00:00
0 0 1 1 *                    | Pacific/Kiritimati   | 2026-06-01T00:00
0 0 29 2 *                   | Pacific/Pago_Pago    | 2026-06-01T00:00
"""


def render() -> str:
    blocks = []
    for case in CASES.strip().splitlines():
        expression, zone, after = (part.strip() for part in case.split("|"))
        slots = islice(runs(expression, zone, datetime.fromisoformat(after).replace(tzinfo=UTC)), COUNT)
        lines = [f"  {slot:%Y-%m-%dT%H:%MZ}  {slot.astimezone(ZoneInfo(zone)).isoformat()}" for slot in slots]
        blocks.append("\n".join([f"{expression} | {zone} | after {after}Z", *lines]))
    return "\n\n".join(blocks) + "\n"


def test_the_next_runs_are_those_of_the_golden_file() -> None:
    assert render() == GOLDEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    GOLDEN.write_text(render(), encoding="utf-8")
