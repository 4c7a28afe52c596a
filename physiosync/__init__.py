"""PhysioSync: encoders for EEG and peripheral signals, from the way bodies and brains synchronise."""

__version__ = "0.1.0"
