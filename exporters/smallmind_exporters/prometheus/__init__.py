"""The Prometheus exporter. Needs the extra ``prometheus``, when one is made."""

from smallmind_exporters.prometheus.exporter import PrometheusExporter
from smallmind_exporters.prometheus.server import MetricsServer

__all__ = ["MetricsServer", "PrometheusExporter"]
