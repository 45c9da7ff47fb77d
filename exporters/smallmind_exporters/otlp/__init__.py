"""The OTLP exporter. Needs the extra ``otlp``, when one is made."""

from smallmind_exporters.otlp.exporter import OtlpExporter
from smallmind_exporters.otlp.tail import ExpansionCause, SpanDetail, TailExpansion

__all__ = ["ExpansionCause", "OtlpExporter", "SpanDetail", "TailExpansion"]
