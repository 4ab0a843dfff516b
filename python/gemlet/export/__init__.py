"""From a checkpoint or a GGUF file of Gemma 3n to files that other runtimes run."""
