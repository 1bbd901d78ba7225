"""The eager backend: any torch module or function, integrated step by step in torch."""
