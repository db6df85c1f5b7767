"""aMUSEd's transformer, the open reproduction of Muse."""
