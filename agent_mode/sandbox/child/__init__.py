"""What runs in the process of an admin's code. Imports the standard library alone: small and quick."""
