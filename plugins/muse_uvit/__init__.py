"""MUSE-Pytorch: its two U-ViTs and their published weights."""
