"""Pictures in and out: pixels, files, contact sheets, figures, and what a picture says of itself."""
