"""Pull requests at the forges and their text."""
