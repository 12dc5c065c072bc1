"""learnae: peer-to-peer training of neural networks by ordinary PCs; this package is the library and the client."""

__version__ = "0.1.0"
