"""Cards, pictures and layouts of published models: plain values in; text, figures and files out."""

from .card import render_card, render_collection


__all__ = ["render_card", "render_collection"]
