"""Compile: toolkit, capture, graph, link, pack. Imported only on a miss; the farm uses it too."""
