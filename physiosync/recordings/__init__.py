"""Readers: each turns one vendor's files into `Recording`s; nothing else knows those formats."""
