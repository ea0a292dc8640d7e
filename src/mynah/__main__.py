"""``python -m mynah`` is the command ``mynah``."""

from mynah.cli.main import main

if __name__ == "__main__":
    main()
