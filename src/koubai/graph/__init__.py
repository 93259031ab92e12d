"""The graph room: a plain NumPy function becomes a graph, and a graph its own derivative."""
