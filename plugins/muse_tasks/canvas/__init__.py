"""The task that plays a canvas's actions."""
