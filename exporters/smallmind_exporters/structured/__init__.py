"""The structlog exporter. Needs the extra ``structlog``, when one is made."""

from smallmind_exporters.structured.exporter import StructlogExporter

__all__ = ["StructlogExporter"]
