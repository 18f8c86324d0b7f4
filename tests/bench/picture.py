"""The picture of a result: CPU and lateness of each contestant on a logarithmic scale, on a light page and a dark."""

import math
from html import escape

from tests.bench.report import Report, number
from tests.bench.scenarios import OURS, SCENARIOS, title

WIDTH, NAMES, ROW, BAR = 760, 190, 26, 16
LONGEST = WIDTH - NAMES - 90
PANELS = (
    ("cpu", "CPU per webhook, process and PostgreSQL", "µs"),
    ("lateness_p99", "Lateness: 99 of 100 webhooks have arrived after", "s"),
)
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 }
.ours { fill: #1f6feb } .other { fill: #848d97 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }
"""


def draw(report: Report) -> str:
    """An SVG of the first scenario."""
    parts, top = [], 0
    for metric, words, unit in PANELS:
        panel = draw_panel(report, metric, f"{words} (logarithmic scale)", unit, top)
        parts += panel
        top += (len(panel) - 1) // 3 * ROW + 56
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img">'
        f"<title>CPU and lateness of {len(SCENARIOS[0].contestants)} ways to send webhooks</title>"
        f"<style>{STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def draw_panel(report: Report, metric: str, words: str, unit: str, top: int) -> list[str]:
    """The title, and for each contestant its name, its bar and its figure."""
    scenario = SCENARIOS[0]
    values = {
        name: report["figures"][f"{scenario.name}/{name}/{metric}"]["median"] for name in scenario.contestants
    }
    least = min(values.values()) / 2
    per_decade = LONGEST / math.log10(max(values.values()) / least)
    parts = [f'<text class="title" x="0" y="{top + 16}">{escape(words)}</text>']
    for row, (name, value) in enumerate(sorted(values.items(), key=lambda item: item[1])):
        y = top + 28 + row * ROW
        length = per_decade * math.log10(value / least)
        share = scenario.contestants[name]
        label = title(name) + (f" ({share * report['webhooks']:,.0f})" if share < 1 else "")
        kind = "ours" if name == OURS else "other"
        parts += [
            f'<text x="{NAMES - 8}" y="{y + 13}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{kind}" x="{NAMES}" y="{y}" width="{length:.0f}" height="{BAR}" rx="2"/>',
            f'<text x="{NAMES + length + 6:.0f}" y="{y + 13}">{number(value)} {unit}</text>',
        ]
    return parts
