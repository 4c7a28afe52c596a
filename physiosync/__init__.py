"""PhysioSync: encoders of EEG and peripheral signals, learned from how bodies synchronise."""

__version__ = "0.1.0"
