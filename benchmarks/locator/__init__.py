"""The whole-head locator: heads synthesised from label maps, its training, and how well it finds."""
