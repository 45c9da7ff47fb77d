"""The reference backend: plain NumPy, float32, exact and readable."""

from smallmind_engine.kernels.numpy_backend.backend import NumpyBackend

__all__ = ["NumpyBackend"]
