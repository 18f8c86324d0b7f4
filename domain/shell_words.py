"""The words of one simple shell command, without running a shell.

Not shlex: that forgets what was quoted, takes quadratic time for a long word, and does not know $'...', in which
browsers copy requests.
"""

import re

from domain.errors import InvalidInput

_PIECE = re.compile(
    r"""
      (?P<continued>\\\r?\n)
    | (?P<escaped>\\.)
    | '(?P<single>[^']*)'
    | \$'(?P<ansi>(?:\\.|[^'\\])*)'
    | "(?P<double>(?:\\.|[^"\\])*)"
    | (?P<blank>\s+)
    | (?P<operator>[;|&<>()]+)
    | (?P<plain>[^\s;|&<>()'"\\$`]+)
    | (?P<dollar>\$(?![\w{(*@\#?!-]))
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_OUTPUT = re.compile(r"(?:\d*>>?|&>>?)[ \t]*(?:&\d|[^\s;|&<>()'\"]+)(?=\s|$)")
_COMMENT = re.compile(r"#[^\n]*")
_IN_DOUBLE_QUOTES = re.compile(r"\\(?:(\r?\n)|([$`\"\\]))")
_REPLACED = re.compile(r"(?<!\\)(?:\\\\)*(?:`|\$[\w{(*@#?!-])")
_ANSI_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{1,4})|([0-7]{1,3})|(.))", re.DOTALL)
_ANSI_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b"}


def words_of(command: str) -> list[str]:
    """The words as a shell would hand them to a program; where its output goes, and a comment, are left out.

    Raises InvalidInput for what only a shell can do: variables, substitutions, several commands, input files. Never
    shows a word, which may be a secret.
    """
    words: list[str] = []
    word: list[str] | None = None  # between words; an empty list is the word ''
    position = 0
    command = command.strip()
    while position < len(command):
        if word is None and (
            left_out := _OUTPUT.match(command, position) or _COMMENT.match(command, position)
        ):
            position = left_out.end()
            continue
        piece = _PIECE.match(command, position)
        assert piece is not None  # `other` matches everything
        position = piece.end()
        if piece.lastgroup == "blank":
            if word is not None:
                words.append("".join(word))
            word = None
        elif piece.lastgroup != "continued":
            word = word or []
            word.append(_text_of(piece))
    if word is not None:
        words.append("".join(word))
    return words


def _text_of(piece: re.Match[str]) -> str:
    text = piece[piece.lastgroup or 0]
    match piece.lastgroup:
        case "single" | "plain" | "dollar":
            return text
        case "escaped":
            return text[1:]
        case "double":
            if _REPLACED.search(text):
                raise InvalidInput(
                    "A variable or a command stands in double quotes, which only a shell can replace; "
                    "write its value, or use single quotes."
                )
            return _IN_DOUBLE_QUOTES.sub(lambda found: found[2] or "", text)
        case "ansi":
            return _ansi(text)
        case "operator":
            raise InvalidInput(
                f"'{text}' is more than one command, which only a shell can do; "
                "put what contains it in quotes, or leave it out."
            )
    if text in "'\"":
        raise InvalidInput("A quotation mark is not closed; the command ends within it.")
    if text == "\\":
        raise InvalidInput("The command ends with a backslash; remove it or add what follows.")
    raise InvalidInput(
        f"'{text}' begins a variable or a command, which only a shell can replace; write its value, or use "
        "single quotes."
    )


def _ansi(text: str) -> str:
    r"""What $'...' means; characters beyond U+FFFF are written as two \u in it."""

    def character(found: re.Match[str]) -> str:
        hexadecimal, octal, letter = found[1] or found[2], found[3], found[4]
        if hexadecimal:
            return chr(int(hexadecimal, 16))
        return chr(int(octal, 8)) if octal else _ANSI_LETTERS.get(letter, letter)

    units = _ANSI_ESCAPE.sub(character, text)
    try:
        return units.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise InvalidInput(r"$'...' contains half of a character (\ud800 to \udfff); complete it.") from None
