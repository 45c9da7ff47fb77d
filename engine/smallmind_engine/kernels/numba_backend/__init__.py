"""The fast backend: fused kernels on packed weights, compiled by Numba on first use."""
