"""What a terminal can show: characters that it has, line by line, and nothing once it is gone."""

import codecs
import io
import os
import sys

# What the answers use beyond ASCII, for terminals that have no more than that.
_PLAIN = {
    "…": "...", "−": "-", "–": "-", "—": "-", "×": "x", "±": "+/-", "√": "sqrt ", "→": "->",
    "ε": "epsilon", "γ": "gamma", "≤": "<=", "≥": ">=", "’": "'", "“": '"', "”": '"',
    "\u00a0": " ", "\u202f": " ", "█": "#", "▏": "#",
}  # fmt: skip


def prepare() -> None:
    """Let what is printed appear at once, and never fail for a character.

    What the terminal's encoding lacks is written in ASCII, or as a question mark.
    """
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain", line_buffering=True)


def give_up_output() -> None:
    """Send to nowhere what is still to be printed: its reader has gone (``… | head -1``)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _plain(error: UnicodeError) -> tuple[str, int]:
    unknown = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in unknown), error.end
