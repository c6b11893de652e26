"""One blueprint per file: load with access, validate, call one service verb, answer."""
