"""The reference model: every port on plain dictionaries, so simple that it is obviously right.

It is the double of the unit tests, the oracle of the harness, and the shortest description of what a port means.
"""

from adapters.memory.audit import MemoryObjectAudit, MemoryRecordAudit
from adapters.memory.clock import FixedClock, SequentialIds
from adapters.memory.metadata import MemoryMetadata
from adapters.memory.objects import MemoryObjects
from adapters.memory.rate_limits import MemoryRateLimiter

__all__ = [
    "FixedClock",
    "MemoryMetadata",
    "MemoryObjectAudit",
    "MemoryObjects",
    "MemoryRateLimiter",
    "MemoryRecordAudit",
    "SequentialIds",
]
