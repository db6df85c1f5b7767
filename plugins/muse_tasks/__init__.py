"""muse_studio's default tasks parts."""
