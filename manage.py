"""The administrator's command line: events and deployments. `python3 manage.py --help` teaches it."""

from tools import environment

if __name__ == "__main__":
    environment.enter()
    from admin.commands import main

    main()
