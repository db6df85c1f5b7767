"""The machine below: devices and memory, files and weights behind any address."""
