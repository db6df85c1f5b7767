"""How a masked grid is filled: mask schedules, samplers, guidance."""
