"""What the tests need around them: real parts, started on demand."""
