"""`python -m mtrain` is the command `mtrain`."""

from mtrain.cli import main

if __name__ == "__main__":
    main()
