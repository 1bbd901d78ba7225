"""Compiled functions, one module for each hook of the backend; each cache has a bound."""
