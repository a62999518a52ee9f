"""Real daily bars that come with the library; ``SOURCE.md`` says whose they are."""
