"""The HTTP side: thin functions that parse, make one call, and respond."""

VERSION = "0.1.0"
