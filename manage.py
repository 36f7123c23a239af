"""The command line for organisers. Start with `python3 manage.py --help`."""

from admin import environment

if __name__ == "__main__":
    environment.enter()
    from admin.commands import main

    main()
