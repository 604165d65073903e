"""``python -m vqlab`` is the ``vqlab`` command."""

from vqlab.cli import main

if __name__ == "__main__":
    main()
