"""Sampled statistics: rates, ages, latency, memory."""
