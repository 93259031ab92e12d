"""Programs as people write them, and what is asked of koubai for each: see `programs`, `idioms` and `examination`."""
