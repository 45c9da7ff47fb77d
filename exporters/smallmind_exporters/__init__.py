"""Exporters: each subscribes to the engine's event bus and shows what it hears elsewhere."""
