"""What holds for every test: Hypothesis measures no time, for a busy machine is no fault."""

from hypothesis import settings

settings.register_profile("feiqian", deadline=None)
settings.load_profile("feiqian")
