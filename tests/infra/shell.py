"""The gcloud commands of a text, and the deployments among them."""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

ROOT = Path(__file__).parents[2]
START = re.compile(r"(?<![\w./`-])gcloud (?=[a-z])")


def bash_in(document: str) -> str:
    """The code blocks in bash of a document in Markdown, and what it says of gcloud between backticks."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?^```$", "", document, flags=re.DOTALL | re.MULTILINE)
    return "\n".join([*blocks, *re.findall(r"`(gcloud [^`\n]* --?[^`\n]*)`", prose)])


def terraform_in(configuration: str) -> str:
    """The gcloud commands within strings of Terraform; what it computes is an x."""
    text = re.sub(r"\$\{[^}]*\}", "x", configuration)
    return "\n".join(re.findall(r"gcloud [^\"`\n]* --[^\"`\n]*", text))


def gcloud_commands(shell: str) -> Iterator[str]:
    """Each call of gcloud, on one line, as it is written: variables are not replaced."""
    text = re.sub(r"\s*\\\n\s*", " ", shell)
    for match in START.finditer(text):
        yield text[match.start() : end_of_command(text, match.start())].strip()


def end_of_command(text: str, position: int) -> int:
    """Where the command at `position` ends: at a line, a pipe, a redirection, or the end of its $( )."""
    within: list[str] = []
    while position < len(text):
        character, innermost = text[position], within[-1] if within else ""
        if character == innermost:
            within.pop()
        elif innermost == "'":
            pass
        elif text.startswith("$(", position):
            within.append(")")
        elif character == '"' or (character == "'" and innermost != '"'):
            within.append(character)
        elif not within and character in "\n|;&<>)":
            break
        position += 1
    return position


def unset_variables(shell: str, given: Collection[str] = ()) -> set[str]:
    """The variables that a shell uses and neither sets nor is given."""
    text = re.sub(r"^\s*#.*$", "", shell, flags=re.MULTILINE)
    used = set(re.findall(r"\$\{?([A-Za-z_]\w*)", text))
    assigned = re.findall(r"^\s*([A-Za-z_]\w*)=|\bfor (\w+) in ", text, re.MULTILINE)
    return used - {name for pair in assigned for name in pair} - set(given)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A `gcloud functions deploy` or `gcloud run deploy`."""

    name: str
    entry_point: str
    flags: Mapping[str, str]
    settings: Mapping[str, str]
    secrets: Mapping[str, str]


def deployments_in(shell: str, variables: Mapping[str, str] | None = None) -> list[Deployment]:
    """What a shell deploys, in its order, with `variables` replaced by their values."""
    return [
        deployment_of(words)
        for command in gcloud_commands(shell)
        if (words := shlex.split(Template(command).safe_substitute(variables or {})))[1:3]
        in (["functions", "deploy"], ["run", "deploy"])
    ]


def deployment_of(words: list[str]) -> Deployment:
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in words if word.startswith("--"))
    settings = flags.pop("set-env-vars", "")
    return Deployment(
        name=words[3],
        entry_point=flags.get("entry-point") or flags.get("function") or "",
        flags=flags,
        settings=pairs(settings.removeprefix("^;^"), ";" if settings.startswith("^;^") else ","),
        secrets=pairs(flags.pop("set-secrets", ""), ","),
    )


def pairs(text: str, separator: str) -> dict[str, str]:
    return dict(pair.partition("=")[::2] for pair in text.split(separator) if pair)
