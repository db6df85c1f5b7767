"""The layouts that VQGANs are published in, each as tables for the part `vqgan`."""
