"""Front ends: the calls of other libraries, over a backend."""
