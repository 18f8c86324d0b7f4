"""What the README and docs/performance.md say of a result: the text between their two markers, and the picture."""

from pathlib import Path

from tests.bench import goals, picture
from tests.bench.child import ROOT
from tests.bench.report import Report, setting, shown
from tests.bench.scenarios import OURS, SCENARIOS, title

BEGIN, END = "<!-- written by make bench -->\n", "<!-- end -->"
PICTURE = ROOT / "docs/performance.svg"
NOT_MEASURED = "Not measured yet: `make bench` on a quiet machine writes it here.\n"


def write(report: Report) -> None:
    """Bring the documents and the picture up to this result."""
    PICTURE.write_text(picture.draw(report))
    for path, part in parts(report).items():
        text = path.read_text()
        path.write_text(text.replace(written(text), part))


def written(text: str) -> str:
    """What is between the markers of a document."""
    return text.partition(BEGIN)[2].partition(END)[0]


def parts(report: Report | None) -> dict[Path, str]:
    """What each document has between its markers."""
    readme, page = ROOT / "README.md", ROOT / "docs/performance.md"
    if report is None:
        return {readme: NOT_MEASURED, page: NOT_MEASURED}
    return {readme: summary(report), page: "\n".join((goal_table(report), scenario_tables(report)))}


def summary(report: Report) -> str:
    """The picture, and the first scenario."""
    image = "![CPU and lateness of each, on a logarithmic scale](docs/performance.svg)"
    return "\n".join((image, "", scenario_table(report, 0), setting(report), ""))


def goal_table(report: Report) -> str:
    rows = ["| goal | | measured | |", "|---|---|---|---|"]
    rows += [f"| {' | '.join(row)} |" for row in goals.verdict(report)]
    return "\n".join((*rows, "", setting(report), ""))


def scenario_tables(report: Report) -> str:
    return "\n".join(
        f"**{scenario.words[0].upper()}{scenario.words[1:]}**\n\n{scenario_table(report, place)}"
        for place, scenario in enumerate(SCENARIOS)
    )


def scenario_table(report: Report, place: int) -> str:
    scenario, figures = SCENARIOS[place], report["figures"]
    rows = [
        "| | CPU per webhook, µs | to Insignia's | lateness of 99 %, s | memory, MB |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, share in scenario.contestants.items():
        key = f"{scenario.name}/{name}"
        ratio = ratio_to_ours(report, scenario.name, name)
        number = f" ({share * report['webhooks']:,.0f} webhooks)" if share < 1 else ""
        cells = [shown(figures[f"{key}/{metric}"]) for metric in ("cpu", "lateness_p99", "memory")]
        rows.append(f"| {title(name)}{number} | {cells[0]} | {ratio} | {cells[1]} | {cells[2]} |")
    return "\n".join((*rows, ""))


def ratio_to_ours(report: Report, scenario: str, name: str) -> str:
    figure = report["figures"].get(f"{scenario}/{name}/cpu/{OURS}")
    return "1" if name == OURS else shown(figure) if figure else ""
