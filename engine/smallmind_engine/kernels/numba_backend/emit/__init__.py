"""What is compiled: functions for Numba, and functions that write LLVM IR themselves.

Imported only when something has to be compiled. The key of the kernels on disk knows these sources.
"""
