"""Make the tables, and the users who may add images. Run in Wagtail's environment."""

import sys

import django
from django.core.management import call_command

django.setup()
call_command("migrate", run_syncdb=True, verbosity=0)

from django.contrib.auth.models import Group, User  # noqa: E402 (only once it is set up)

for name in sys.argv[1:]:
    User.objects.create(username=name).groups.add(Group.objects.get(name="Editors"))
