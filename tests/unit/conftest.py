"""Settings of the unit tests: nothing is said of time, because the machine may be busy with other things."""

from hypothesis import HealthCheck, settings

settings.register_profile("unit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unit")
