"""``python -m pynode_jl``: the command line."""

from pynode_jl.cli import main

if __name__ == "__main__":
    main()
