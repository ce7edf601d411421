"""The REST door of the Joblib models."""
