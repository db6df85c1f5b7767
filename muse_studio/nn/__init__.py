"""Layers and checks that networks share."""
