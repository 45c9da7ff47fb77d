"""A log of events as one self-contained HTML page."""

from smallmind._report.collecting import collect
from smallmind._report.rendering import render
from smallmind._report.requests import LogContents, ReportedRequest

__all__ = ["LogContents", "ReportedRequest", "collect", "render"]
