"""Models by name: the bundled sample, Gemma 3 270M from its Python package, the Hugging Face hub, Ollama's store.

`names` turns a name into a file, `download` talks to the hub, `hf_cache` reads its cache without its client.
"""
