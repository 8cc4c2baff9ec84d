"""GGUF, the one file that llama.cpp and Ollama read: which architectures, how their weights and tokens are written."""
