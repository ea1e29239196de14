"""Settings of the unit tests: properties have no deadline, because the machine may be busy with other things."""

from hypothesis import settings

settings.register_profile("unit", deadline=None)
settings.load_profile("unit")
