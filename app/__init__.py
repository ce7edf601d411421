"""Lookout: a self-hosted service for scikit-learn pipelines and YOLOS object detection."""

__version__ = "0.1.0"
