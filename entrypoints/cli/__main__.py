"""``python -m entrypoints.cli`` is ``calotype``."""

from entrypoints.cli.app import main

if __name__ == "__main__":
    main()
