"""Tests of mtrain/exchange."""
