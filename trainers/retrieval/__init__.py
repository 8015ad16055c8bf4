"""Models as scorers, embedded collections, and the search of them."""
