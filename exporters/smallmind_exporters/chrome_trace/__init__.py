"""The Chrome trace exporter: a file for ui.perfetto.dev and chrome://tracing."""

from smallmind_exporters.chrome_trace.exporter import ChromeTraceExporter

__all__ = ["ChromeTraceExporter"]
