"""What maintainers of the template run."""
