"""Normalizing layers over the CUDA module."""

from apex.normalization.fused import FusedLayerNorm, FusedRMSNorm

__all__ = ["FusedLayerNorm", "FusedRMSNorm"]
