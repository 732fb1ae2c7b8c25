"""Where rows are kept. One port (`base`), one contract test suite, one adapter per database."""
