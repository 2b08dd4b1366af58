"""`python -m sq.cli` is `sq`."""

from sq.cli import main

if __name__ == "__main__":
    main()
