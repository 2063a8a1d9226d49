"""All faults that a pod's start is tried with: one entry each, in the modules named here."""

from __future__ import annotations

from support.faults_disk import FAULTS_OF_DISKS
from support.faults_network import NETWORK
from support.faults_pod import FAULTS_OF_INDEXES, FAULTS_OF_PODS
from support.faults_process import PROCESSES
from support.faults_real import REAL_COMPILER
from support.faults_toolkit import TOOLKITS

FAULTS = (
    *NETWORK,
    *FAULTS_OF_DISKS,
    *FAULTS_OF_INDEXES,
    *PROCESSES,
    *TOOLKITS,
    *FAULTS_OF_PODS,
    *REAL_COMPILER,
)

SAMPLE = tuple(fault for fault in FAULTS if fault.sample)
"""What every run of the tests plays; all others are for the soak and the benchmark."""
