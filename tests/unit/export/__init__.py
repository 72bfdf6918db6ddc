"""Tests of mtrain/export."""
