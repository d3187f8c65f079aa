"""Devices, files, signals and the terminal: everything that is not arithmetic."""
