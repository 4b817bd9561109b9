"""`make zoo`: runs the zoo; the results go to results.json, the tables to docs/rules.md."""

from .everything import main

if __name__ == "__main__":
    main()
