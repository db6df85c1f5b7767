"""The page's board in a notebook, over a canvas of the kernel."""
