"""Standard input, output and error, which the caller may have closed or sent to a full disk."""

import io
import os
import sys


class StandardOutput(io.TextIOWrapper):
    """Standard output whose errors say that they are about it; the system's have no file name."""

    def write(self, text: str) -> int:
        """Writes text.

        Raises:
            OSError: it cannot be written; with the name of the stream.
        """
        try:
            return super().write(text)
        except OSError as error:
            raise self._failure(error) from error

    def flush(self) -> None:
        """Writes what is buffered.

        Raises:
            OSError: as for `write`.
        """
        try:
            super().flush()
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> OSError:
        """Returns the error with a name; what is left goes nowhere, or the exit would fail, too."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        return OSError(error.errno, error.strerror, "standard output")


def prepare_streams() -> None:
    """Opens closed streams on the null device, and names standard output in its errors.

    Without a stream at its number, the next file to be opened, such as the connection to the
    database, would be standard output.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - stays open
    stream = sys.__stdout__
    if stream is sys.stdout and isinstance(stream, io.TextIOWrapper):
        sys.stdout = StandardOutput(
            stream.buffer,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
        )
