"""Which parts there are, from which plugin, and how plugins are told and asked."""
