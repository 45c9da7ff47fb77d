"""The JSON Lines exporter: a log of events in rotating files that can be replayed."""

from smallmind_exporters.jsonl.exporter import JsonLinesExporter

__all__ = ["JsonLinesExporter"]
