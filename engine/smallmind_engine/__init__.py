"""The NumPy engine: reads GGUF files, runs the models in them, and tells what it does."""
