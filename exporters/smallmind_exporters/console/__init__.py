"""The console exporter: a live panel in a terminal. Needs the extra ``cli``, when one is made."""

from smallmind_exporters.console.exporter import ConsoleExporter

__all__ = ["ConsoleExporter"]
