"""Language models behind one small interface: `api` says what one is, `registry` opens one by name or address."""
